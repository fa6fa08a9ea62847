//! Nothing: the simulation is a test, `tests/main.rs`. A package has to have something else, too.
