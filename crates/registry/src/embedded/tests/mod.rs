//! The files of a store on a pretended disk, which dies, fails and fills up when it is told to.

mod crashes;
mod damage;
mod full;
mod pretended;
mod world;
