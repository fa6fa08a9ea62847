//! Makes bridges, veth pairs, addresses and routes in a given namespace, in few netlink datagrams.
