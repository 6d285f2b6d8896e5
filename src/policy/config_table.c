#include "hawser/config_table.h"

#include <assert.h>
#include <string.h>

#include "hawser/log.h"

const struct config_section_row config_sections[CONFIG_SECTIONS] = {
    [CONFIG_SECTION_NODE] = {"node", false, "This node as a whole. The section is required."},
    [CONFIG_SECTION_INTERCEPT] =
        {"intercept", false,
         "What is caught here. Without the section, or without interface, this node only "
         "serves its peers."},
    [CONFIG_SECTION_TUNNEL] = {"tunnel", false, "How peers reach this node."},
    [CONFIG_SECTION_PEER] =
        {"peer", true,
         "Another node, by a name of this node's choosing. At least one is required. A connection "
         "belongs to the peer whose networks hold its destination, the longest prefix first."},
    [CONFIG_SECTION_STORE] = {"store", false,
                              "The bytes that both ends remember, so that they are sent once only."},
    [CONFIG_SECTION_CLASS] =
        {"class", true,
         "A class of connections and how it is treated. Every key of ports, from, to, dscp, peer, "
         "iface and proto that is given must fit; a list means any of it. The first class in the "
         "file that fits wins. A connection that fits none is accelerated with weight 1."},
    [CONFIG_SECTION_ADMIN] = {"admin", false, "How people and programs look at this node."},
};

#define MIB  ((uint64_t)1 << 20)
#define GIB  ((uint64_t)1 << 30)
#define MS   ((uint64_t)1000)
#define S    (1000 * MS)
#define H    (3600 * S)
#define KBIT ((uint64_t)1000)
#define GBIT (1000 * 1000 * KBIT)

#define AT(field)       .offset = offsetof(struct config, field)
#define AT_PEER(field)  .offset = offsetof(struct config_peer, field)
#define AT_CLASS(field) .offset = offsetof(struct config_class, field)

static_assert(LOG_LEVEL_ERROR == 0 && LOG_LEVEL_WARN == 1 && LOG_LEVEL_INFO == 2 && LOG_LEVEL_DEBUG == 3,
              "the choices of log are in the order of enum log_level");
static_assert(CONFIG_FIREWALL_AUTO == 0 && CONFIG_FIREWALL_NONE == 1,
              "choices are in the order of their enum");
static_assert(CONFIG_SOURCE_CLIENT == 0 && CONFIG_SOURCE_SELF == 1 && CONFIG_SOURCE_AUTO == 2, "likewise");
static_assert(CONFIG_ACTION_ACCELERATE == 0 && CONFIG_ACTION_BYPASS == 1 && CONFIG_ACTION_DENY == 2,
              "likewise");
static_assert(CONFIG_PROTO_TLS == 1 && CONFIG_PROTO_SSH == 2 && CONFIG_PROTO_HTTP == 4 &&
                  CONFIG_PROTO_OTHER == 8,
              "likewise, as bits");
static_assert(sizeof(enum config_action) == sizeof(int) && sizeof(enum config_source) == sizeof(int) &&
                  sizeof(enum config_firewall) == sizeof(int),
              "CONFIG_TYPE_CHOICE writes an int");

const struct config_option config_options[] = {
    {.section = CONFIG_SECTION_NODE,
     .key = "name",
     .type = CONFIG_TYPE_NAME,
     AT(name),
     .flags = CONFIG_REQUIRED | CONFIG_RESTART,
     .syntax = "NAME",
     .help = "What this node calls itself towards its peers and in logs. Only for people: a peer is known by "
             "its pin."},
    {.section = CONFIG_SECTION_NODE,
     .key = "identity",
     .type = CONFIG_TYPE_PATH,
     AT(identity),
     .flags = CONFIG_REQUIRED | CONFIG_RESTART,
     .syntax = "FOLDER",
     .help = "The folder with node.key and node.crt, as made by hawserctl keygen."},
    {.section = CONFIG_SECTION_NODE,
     .key = "user",
     .type = CONFIG_TYPE_NAME,
     AT(user),
     .flags = CONFIG_RESTART,
     .absent = "hawser if there is such a user, else nobody, with a warning",
     .syntax = "USER",
     .help = "The user that the engine runs as. A user that is set must exist."},
    {.section = CONFIG_SECTION_NODE,
     .key = "workers",
     .type = CONFIG_TYPE_WORKERS,
     AT(workers_min),
     .flags = CONFIG_RESTART,
     .min = 1,
     .max = CONFIG_WORKERS_MAX,
     .fallback = "auto",
     .syntax = "auto | N | MIN-MAX",
     .help = "Worker threads. MIN of them are permanent, those up to MAX come and go with the load. auto is "
             "one for each CPU that hawserd may use."},
    {.section = CONFIG_SECTION_NODE,
     .key = "homes",
     .type = CONFIG_TYPE_COUNT,
     AT(homes),
     .flags = CONFIG_RESTART,
     .min = 1,
     .max = CONFIG_WORKERS_MAX,
     .absent =
         "one, and one more for each 1 Gbit/s above the first that the peers' rates add up to (100 Mbit/s "
         "for a peer without rate)",
     .syntax = "N",
     .help = "How many of the permanent workers carry tunnels and keep a store. Each home needs 64M of "
             "the store's memory. What peers at one home have in common is kept once, and may fill all of "
             "it. A home carries new bytes as fast as one CPU can. Their number stays until a restart."},
    {.section = CONFIG_SECTION_NODE,
     .key = "memory",
     .type = CONFIG_TYPE_MEMORY,
     AT(memory_bytes),
     .flags = CONFIG_RESTART,
     .min = 32 * MIB,
     .max = 1024 * GIB,
     .fallback = "25%",
     .syntax = "SIZE | N%",
     .help =
         "The most memory that buffers and the store may take together, as a size or a share (1% to 90%) "
         "of the "
         "machine's. A share of a small machine still gives the least size. Half of it is the store's, if "
         "that is 64M at least: below, nothing is deduplicated."},
    {.section = CONFIG_SECTION_NODE,
     .key = "sessions",
     .type = CONFIG_TYPE_COUNT,
     AT(sessions_max),
     .min = 1,
     .max = 4194304,
     .fallback = "65536",
     .syntax = "N",
     .help = "The most connections that are accelerated at once; what comes beyond goes direct."},
    {.section = CONFIG_SECTION_NODE,
     .key = "connect-timeout",
     .type = CONFIG_TYPE_TIME,
     AT(connect_timeout_us),
     .min = 100 * MS,
     .max = 300 * S,
     .fallback = "10s",
     .syntax = "TIME",
     .help = "How long a connection to a server that does not answer is tried, for connections that come "
             "through a "
             "peer."},
    {.section = CONFIG_SECTION_NODE,
     .key = "log",
     .type = CONFIG_TYPE_CHOICE,
     AT(log_level),
     .choices = "error|warn|info|debug",
     .fallback = "info",
     .syntax = "LEVEL",
     .help = "The least important lines that are still logged."},

    {.section = CONFIG_SECTION_INTERCEPT,
     .key = "interface",
     .type = CONFIG_TYPE_INTERFACES,
     AT(interfaces),
     .flags = CONFIG_RESTART | CONFIG_LIST,
     .absent = "nothing is caught",
     .syntax = "NAME, ...",
     .help = "The interfaces where clients are. Their networks are also what peers may open connections to, "
             "unless a "
             "peer's serve says otherwise."},
    {.section = CONFIG_SECTION_INTERCEPT,
     .key = "port",
     .type = CONFIG_TYPE_PORT,
     AT(port),
     .flags = CONFIG_RESTART,
     .min = 1,
     .max = 65535,
     .fallback = "3129",
     .syntax = "PORT",
     .help = "The TPROXY listener's port on 127.0.0.1 and ::1."},
    {.section = CONFIG_SECTION_INTERCEPT,
     .key = "firewall",
     .type = CONFIG_TYPE_CHOICE,
     AT(firewall),
     .flags = CONFIG_RESTART,
     .choices = "auto|none",
     .fallback = "auto",
     .syntax = "auto | none",
     .help = "auto: hawserd installs the nftables table, policy rules and routes, and removes them when it "
             "ends. none: "
             "the administrator does; see the scripts in contrib."},
    {.section = CONFIG_SECTION_INTERCEPT,
     .key = "mark",
     .type = CONFIG_TYPE_MARK,
     AT(mark),
     .flags = CONFIG_RESTART,
     .fallback = "0x1/0x1",
     .syntax = "VALUE/MASK",
     .help = "The packet mark on what is caught. Choose bits that no other rule of the host uses."},
    {.section = CONFIG_SECTION_INTERCEPT,
     .key = "lane-mark",
     .type = CONFIG_TYPE_MARK,
     AT(lane_mark),
     .flags = CONFIG_RESTART,
     .fallback = "0x2/0x2",
     .syntax = "VALUE/MASK",
     .help = "The packet mark on hawserd's own sockets, which are never caught."},

    {.section = CONFIG_SECTION_TUNNEL,
     .key = "listen",
     .type = CONFIG_TYPE_ENDPOINT,
     AT(listen),
     .flags = CONFIG_RESTART,
     .absent = "this node only dials",
     .syntax = "ADDRESS:PORT",
     .help = "Where peers dial in. 0.0.0.0 is every IPv4 address, [::] every address of both families."},

    {.section = CONFIG_SECTION_PEER,
     .key = "address",
     .type = CONFIG_TYPE_ADDRESS,
     AT_PEER(address),
     .absent = "wait for the peer to dial, which needs listen in [tunnel]",
     .syntax = "ADDRESS:PORT",
     .help = "Where to dial this peer. A numeric address: no name is looked up."},
    {.section = CONFIG_SECTION_PEER,
     .key = "pin",
     .type = CONFIG_TYPE_PINS,
     AT_PEER(pins),
     .flags = CONFIG_REQUIRED | CONFIG_LIST,
     .syntax = "BASE64, ...",
     .help = "The pin of the peer's key, as printed by hawserctl keygen and hawserctl pin: who shows that "
             "key is this "
             "peer. A second pin is accepted as well, so that a key can be changed without a gap."},
    {.section = CONFIG_SECTION_PEER,
     .key = "networks",
     .type = CONFIG_TYPE_PREFIXES,
     AT_PEER(networks),
     .flags = CONFIG_REQUIRED | CONFIG_LIST,
     .syntax = "PREFIX, ...",
     .help = "What is reached through this peer, and the addresses it may speak for. Two peers' networks may "
             "lie within "
             "one another, but the same network cannot be given twice."},
    {.section = CONFIG_SECTION_PEER,
     .key = "source",
     .type = CONFIG_TYPE_CHOICE,
     AT_PEER(source),
     .choices = "client|self|auto",
     .fallback = "client",
     .syntax = "client | self | auto",
     .help = "Whose address this node uses towards servers for connections that come from this peer: the "
             "client's, its "
             "own, or the client's first and its own where that gets no answer. Read at the far side."},
    {.section = CONFIG_SECTION_PEER,
     .key = "serve",
     .type = CONFIG_TYPE_SERVE,
     AT_PEER(serve),
     .flags = CONFIG_LIST,
     .absent = "the networks of the interfaces in [intercept]",
     .syntax = "PREFIX, ... | none",
     .help = "Which destinations here this peer may open connections to. none: it may open none."},
    {.section = CONFIG_SECTION_PEER,
     .key = "lanes",
     .type = CONFIG_TYPE_COUNT,
     AT_PEER(lanes),
     .min = 1,
     .max = CONFIG_LANES_MAX,
     .fallback = "2",
     .syntax = "N",
     .help =
         "TCP connections to this peer. With two, interactive sessions do not wait behind bulk transfers."},
    {.section = CONFIG_SECTION_PEER,
     .key = "congestion",
     .type = CONFIG_TYPE_WORD,
     AT_PEER(congestion),
     .fallback = "auto",
     .syntax = "auto | ALGORITHM",
     .help =
         "TCP congestion control of the lanes, as in net.ipv4.tcp_available_congestion_control. auto: bbr, "
         "and cubic where the round trip is below a millisecond. The kernel's default is used, with a "
         "warning, where the one wanted is missing."},
    {.section = CONFIG_SECTION_PEER,
     .key = "rate",
     .type = CONFIG_TYPE_BITRATE,
     AT_PEER(rate_bits_per_s),
     .min = 8 * KBIT,
     .max = 1000 * GBIT,
     .absent = "unknown; it is learned",
     .syntax = "RATE",
     .help = "What the link carries towards this peer. A known rate makes first transfers several times "
             "faster on long "
             "links; a rate far above the truth wastes traffic."},
    {.section = CONFIG_SECTION_PEER,
     .key = "hold",
     .type = CONFIG_TYPE_TIME,
     AT_PEER(hold_us),
     .max = 24 * H,
     .fallback = "60s",
     .syntax = "TIME",
     .help = "How long sessions outlive a tunnel without any lane, waiting for it to come back."},

    {.section = CONFIG_SECTION_STORE,
     .key = "path",
     .type = CONFIG_TYPE_PATH,
     AT(store_path),
     .flags = CONFIG_RESTART,
     .absent = "the store is in memory only and cold after a restart",
     .syntax = "FOLDER",
     .help = "The folder of the store, an absolute path: what both ends remember outlives a restart there. "
             "It is made where it is missing, and for this node alone; an empty one of root's is taken over. "
             "hawserd does not start with one that is somebody "
             "else's; when the disk is full or fails it goes on in memory only, tries again each 30 s, and "
             "then writes what memory still holds. Without it the link's rate "
             "is learned "
             "anew, too."},
    {.section = CONFIG_SECTION_STORE,
     .key = "size",
     .type = CONFIG_TYPE_BYTES,
     AT(store_size_bytes),
     .flags = CONFIG_RESTART,
     .min = 64 * MIB,
     .max = 65536 * GIB,
     .fallback = "4G",
     .syntax = "SIZE",
     .help =
         "The most that the store takes on disk, but for up to 256K a peer; the oldest goes first. What is "
         "read back after a start is "
         "the newest, as much as fits into the store's half of memory in [node]. The rest comes back when it "
         "is "
         "met again: its beginning crosses once more, then the segments of 16M are read, and the others "
         "pushed "
         "out for them. Of a file that is larger than that half of memory, or lies in more segments than "
         "fit, "
         "much crosses again each time."},

    {.section = CONFIG_SECTION_CLASS,
     .key = "ports",
     .type = CONFIG_TYPE_PORTS,
     AT_CLASS(ports),
     .flags = CONFIG_LIST,
     .absent = "any",
     .syntax = "PORT | FIRST-LAST, ...",
     .help = "The server's port."},
    {.section = CONFIG_SECTION_CLASS,
     .key = "from",
     .type = CONFIG_TYPE_PREFIXES,
     AT_CLASS(from),
     .flags = CONFIG_LIST,
     .absent = "any",
     .syntax = "PREFIX, ...",
     .help = "The client's address."},
    {.section = CONFIG_SECTION_CLASS,
     .key = "to",
     .type = CONFIG_TYPE_PREFIXES,
     AT_CLASS(to),
     .flags = CONFIG_LIST,
     .absent = "any",
     .syntax = "PREFIX, ...",
     .help = "The server's address."},
    {.section = CONFIG_SECTION_CLASS,
     .key = "dscp",
     .type = CONFIG_TYPE_DSCPS,
     AT_CLASS(dscp_mask),
     .flags = CONFIG_LIST,
     .absent = "any",
     .syntax = "DSCP, ...",
     .help = "The DSCP of the client's packets: 0 to 63, or a name as ef, le, cs0 to cs7, af11 to af43."},
    {.section = CONFIG_SECTION_CLASS,
     .key = "peer",
     .type = CONFIG_TYPE_PEERS,
     AT_CLASS(peers),
     .flags = CONFIG_LIST,
     .absent = "any",
     .syntax = "NAME, ...",
     .help = "The peer that the connection goes through; each must exist."},
    {.section = CONFIG_SECTION_CLASS,
     .key = "iface",
     .type = CONFIG_TYPE_IFACES,
     AT_CLASS(ifaces),
     .flags = CONFIG_LIST,
     .absent = "any",
     .syntax = "NAME, ...",
     .help =
         "The interface that the client's packets come in by; each must be one of interface in [intercept]."},
    {.section = CONFIG_SECTION_CLASS,
     .key = "proto",
     .type = CONFIG_TYPE_PROTOS,
     AT_CLASS(proto_mask),
     .flags = CONFIG_LIST,
     .choices = "tls|ssh|http|other",
     .absent = "any",
     .syntax = "PROTOCOL, ...",
     .help = "What the first bytes look like. Known only once the connection is caught, so it cannot be "
             "combined with "
             "action bypass or deny."},
    {.section = CONFIG_SECTION_CLASS,
     .key = "action",
     .type = CONFIG_TYPE_CHOICE,
     AT_CLASS(action),
     .choices = "accelerate|bypass|deny",
     .fallback = "accelerate",
     .syntax = "accelerate | bypass | deny",
     .help = "accelerate: through the tunnel. bypass: direct. deny: refused."},
    {.section = CONFIG_SECTION_CLASS,
     .key = "dedup",
     .type = CONFIG_TYPE_YESNO,
     AT_CLASS(dedup),
     .fallback = "yes",
     .syntax = "yes | no",
     .help =
         "no: these sessions' bytes are neither stored nor looked for among what is. Each side decides for "
         "what its own hosts send, by its class of that name: say it on both."},
    {.section = CONFIG_SECTION_CLASS,
     .key = "share",
     .type = CONFIG_TYPE_YESNO,
     AT_CLASS(share),
     .fallback = "yes",
     .syntax = "yes | no",
     .help =
         "no: nothing about these sessions' bytes shows in the sizes of others, nor of others' in theirs. "
         "It is dedup = no and compress = off in one, and goes with no other value of these. Say it on both "
         "sides."},
    {.section = CONFIG_SECTION_CLASS,
     .key = "compress",
     .type = CONFIG_TYPE_COMPRESS,
     AT_CLASS(compress),
     .min = 1,
     .max = 19,
     .fallback = "auto",
     .syntax = "auto | off | LEVEL",
     .help = "zstd: by what the link and the CPU have room for, not at all, or at this level."},
    {.section = CONFIG_SECTION_CLASS,
     .key = "weight",
     .type = CONFIG_TYPE_COUNT,
     AT_CLASS(weight),
     .max = 1000,
     .fallback = "1",
     .syntax = "N",
     .help = "The class's share of a busy link beside the other classes. 0 is background: it gets what the "
             "others "
             "leave."},
    {.section = CONFIG_SECTION_CLASS,
     .key = "limit",
     .type = CONFIG_TYPE_LIMIT,
     AT_CLASS(limit),
     .min = 8 * KBIT,
     .max = 1000 * GBIT,
     .absent = "none",
     .syntax = "RATE | N%",
     .help = "What the class may take while others want the link too: a rate, or a share (0.1% to 100%) of "
             "the peer's "
             "rate, else of the best rate seen lately. An idle link belongs to whoever wants it."},

    {.section = CONFIG_SECTION_ADMIN,
     .key = "control",
     .type = CONFIG_TYPE_SOCKET,
     AT(control),
     .flags = CONFIG_RESTART,
     .fallback = "/run/hawser/control.sock",
     .syntax = "PATH",
     .help = "The unix socket that hawserctl talks to."},
    {.section = CONFIG_SECTION_ADMIN,
     .key = "http",
     .type = CONFIG_TYPE_ENDPOINT,
     AT(http),
     .flags = CONFIG_RESTART,
     .absent = "none",
     .unbuilt = "this version has no dashboard yet; use hawserctl, and 'hawserctl metrics'",
     .syntax = "ADDRESS:PORT",
     .help =
         "Where the dashboard and /metrics are served. Without a password: keep it on a loopback address."},
};

const size_t config_option_count = sizeof(config_options) / sizeof(config_options[0]);
static_assert(sizeof(config_options) / sizeof(config_options[0]) <= CONFIG_OPTIONS_MAX,
              "the bits of a uint64_t");

const struct config_option *config_option_find(enum config_section section, const char *key)
{
    for (size_t i = 0; i < config_option_count; i++) {
        if (config_options[i].section == section && strcmp(config_options[i].key, key) == 0)
            return &config_options[i];
    }
    return NULL;
}
