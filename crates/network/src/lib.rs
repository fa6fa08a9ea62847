//! Plans and carries out attaching a sandbox to a network, and undoes it.
