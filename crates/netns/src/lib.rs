//! Creates, opens and runs code in network namespaces, on threads made for it.
