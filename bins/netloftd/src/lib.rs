//! The Netloft host agent: owns this host's networks and registers what it attaches.
