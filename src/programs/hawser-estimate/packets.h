/* packets.h - the TCP segment in a captured packet. Pure; lengths are those of the packet, and what of it was
 * captured may be less. */
#ifndef HAWSER_ESTIMATE_PACKETS_H
#define HAWSER_ESTIMATE_PACKETS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hawser/addr.h"

enum packet_kind { PACKET_TCP, PACKET_NOT_IP, PACKET_NOT_TCP, PACKET_FRAGMENT, PACKET_CUT_SHORT };

struct segment_seen {
    struct endpoint from, to;
    uint32_t seq;
    bool syn, ack, fin, rst;
    const uint8_t *bytes;   /* payload, borrowed */
    uint32_t captured, len; /* of it: what is there, and what there was */
};

/* Whether packets of that link type (DLT_... of libpcap) can be read. */
bool packet_link_is_known(int link_type);
enum packet_kind packet_read(int link_type, const uint8_t *bytes, size_t captured, size_t len,
                             struct segment_seen *out);

#endif
