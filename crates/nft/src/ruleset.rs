//! The rules. They never change: everything that varies is in the sets.
//!
//! As the `nft` command prints them, with names for what it shows as bytes:
//!
//! ```text
//! table bridge netloft {
//!   chain prerouting { type filter hook prerouting priority -400
//!     iifname @ports goto guarded
//!   }
//!   chain guarded {
//!     iifname . ether saddr . ip saddr @sources4 goto ipv4
//!     iifname . ether saddr . ip6 saddr @sources6 goto ipv6
//!     ether type arp iifname . ether saddr @macs goto arp
//!     drop
//!   }
//!   chain ipv4 { udp sport 67 drop; accept }
//!   chain ipv6 {
//!     meta l4proto icmpv6 goto icmpv6
//!     ip6 saddr :: drop
//!     udp sport 547 drop
//!     meta l4proto >= 0 accept
//!     drop
//!   }
//!   chain icmpv6 {
//!     frag frag-off != 0 accept
//!     exthdr frag exists icmpv6 type 133-137 drop
//!     ip6 saddr :: icmpv6 type 135 accept
//!     ip6 saddr :: icmpv6 type 143 accept
//!     ip6 saddr :: drop
//!     icmpv6 type 134 drop
//!     icmpv6 type 137 drop
//!     icmpv6 type 136 iifname . ether saddr . icmpv6 taddr != @sources6 drop
//!     icmpv6 type >= 0 accept
//!     drop
//!   }
//!   chain arp {
//!     arp htype . ptype . hlen . plen != 1 . ip . 6 . 4 drop
//!     arp operation 1-2 iifname . arp saddr ether . arp saddr ip @sources4 accept
//!     arp operation 1 arp saddr ip 0.0.0.0 iifname . arp saddr ether . arp daddr ip @sources4 accept
//!     drop
//!   }
//!   chain forward { type filter hook forward priority -400
//!     ether daddr & 01:00:00:00:00:00 != 0 iifname . oifname @mirrors drop
//!   }
//! }
//! table inet netloft {
//!   chain raw { type filter hook prerouting priority raw
//!     iifname "lo" return
//!     ip daddr 127.0.0.0/8 iifname @bridges drop
//!     ip6 daddr ::1 iifname @bridges drop
//!     ip daddr @subnets4 iifname . ip daddr != @homes4 drop
//!     ip6 daddr @subnets6 iifname . ip6 daddr != @homes6 drop
//!   }
//!   chain limit { type filter hook prerouting priority mangle
//!     iifname @bridges ct state new add @connections4 { ip saddr ct count over 16384 } drop
//!     iifname @bridges ct state new add @connections6 { ip6 saddr ct count over 16384 } drop
//!   }
//!   chain forward { type filter hook forward priority filter
//!     iifname @bridges goto forward_ours
//!     oifname @bridges goto forward_ours
//!     meta nfproto != @closed return
//!     meta iifkind "bridge" update @selves { iif . iif }
//!     iif . oif @selves return
//!     drop
//!   }
//!   chain forward_ours {
//!     ct state established,related accept
//!     iifname . oifname @within accept
//!     ct state invalid drop
//!     ct status dnat accept
//!     iifname @egress oifname != @bridges accept
//!     iifname @bridges reject with icmpx admin-prohibited
//!     drop
//!   }
//!   chain input { type filter hook input priority filter
//!     iifname @bridges goto input_ours
//!   }
//!   chain input_ours {
//!     ct state established,related accept
//!     iifname @host_access accept
//!     icmpv6 type 135-136 accept
//!     ct state invalid drop
//!     icmp type echo-request accept
//!     icmpv6 type echo-request accept
//!     udp dport 53 fib daddr . iif type local accept
//!     tcp dport 53 fib daddr . iif type local accept
//!     meta l4proto tcp reject with tcp reset
//!     reject with icmpx admin-prohibited
//!   }
//!   chain nat_prerouting { type nat hook prerouting priority dstnat
//!     ip daddr 127.0.0.0/8 return
//!     fib daddr type local goto publications
//!   }
//!   chain nat_output { type nat hook output priority -100
//!     ip6 daddr ::1 return
//!     fib daddr type local goto publications
//!   }
//!   chain publications {
//!     dnat ip to ip daddr . meta l4proto . th dport map @single_at4
//!     meta nfproto ipv4 dnat ip to meta l4proto . th dport map @single4
//!     dnat ip to ip daddr . meta l4proto . th dport map @range_at4
//!     meta nfproto ipv4 dnat ip to meta l4proto . th dport map @range4
//!     # and each of them for ip6
//!   }
//!   chain nat_postrouting { type nat hook postrouting priority srcnat
//!     oifname @bridges goto into_ours
//!     iifname @egress masquerade
//!   }
//!   chain into_ours {
//!     ip saddr 127.0.0.0/8 masquerade
//!     ct status dnat ip saddr @subnets4 masquerade
//!     ct status dnat ip6 saddr @subnets6 masquerade
//!   }
//! }
//! ```

mod guard;
mod inet;

use netloft_types::Family;

use crate::chain::Chain;
use crate::set::family_number;

pub use inet::CONNECTIONS_PER_ADDRESS_MAX;

const TCP: [u8; 1] = [6];
const UDP: [u8; 1] = [17];
const ICMP: [u8; 1] = [1];
const ICMPV6: [u8; 1] = [58];
const IPV4: [u8; 1] = [family_number(Family::V4)];
const IPV6: [u8; 1] = [family_number(Family::V6)];

/// All chains, those that others go to first.
pub(crate) fn chains() -> Vec<Chain> {
    let mut chains = guard::chains();
    chains.extend(inet::chains());
    chains
}
