/* tun.h - makes the TUN devices at the two ends of the emulated link (tuntap.rst of the kernel).
 * The device is made inside the wanted network namespace; its descriptor works from anywhere. */
#ifndef HAWSER_WANEM_TUN_H
#define HAWSER_WANEM_TUN_H

#include <stddef.h>
#include <stdint.h>

#define TUN_MTU_MIN 576u
#define TUN_MTU_MAX 65535u

/* Makes the device of `place` ("wan0", "wan0@NAMESPACE" or "wan0@/path/of/namespace"), sets its MTU and
 * brings it up. Returns a non-blocking descriptor (the device goes when it is closed), or -errno with a
 * sentence in error[error_len]. No offload is asked for, so the kernel cuts super-packets to the MTU
 * before they get here: one read is one packet of the wire. Changes the namespace of the calling
 * thread meanwhile and must find it as it was: call it before there are other threads. */
int tun_open(const char *place, uint32_t mtu, char *error, size_t error_len);

#endif
