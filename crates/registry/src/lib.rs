//! Keeps registrations, expires them, orders changes, answers queries and watches.
