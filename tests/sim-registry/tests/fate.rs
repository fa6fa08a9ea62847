//! Time and chance, decided by a seed for the whole process: what the C library would ask the kernel for.
//!
//! Everything asks the C library: the standard library for `Instant`, `SystemTime` and the keys of hash maps, `rand` for
//! its seeds, tokio for the branch with which `select!` begins. So nothing of what is simulated has to know that it is,
//! and nothing can be forgotten.

#![expect(unsafe_code, reason = "two functions of the C library are replaced")]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use nix::libc::{CLOCK_REALTIME, SYS_clock_gettime, SYS_getrandom, c_int, c_long, c_uint, c_void, clockid_t};
use nix::libc::{size_t, ssize_t, syscall, timespec};

/// Whether this process is simulated. It has one thread then.
static IS_DECIDED: AtomicBool = AtomicBool::new(false);
/// Nanoseconds since the machine began to run.
static NOW: AtomicU64 = AtomicU64::new(1_000_000_000_000);
/// The state of a generator (`SplitMix64` of Steele, Lea and Flood, 2014).
static CHANCE: AtomicU64 = AtomicU64::new(0);

/// When the machine began to run, in nanoseconds since 1970.
const BOOT: u64 = 1_790_000_000_000_000_000;

/// From now on time stands still, except for [`pass`], and chance follows from the seed.
pub(crate) fn decide(seed: u64) {
    CHANCE.store(seed, Ordering::SeqCst);
    IS_DECIDED.store(true, Ordering::SeqCst);
}

/// Lets time pass.
pub(crate) fn pass(span: Duration) {
    let span = u64::try_from(span.as_nanos()).expect("a step is short");
    NOW.fetch_add(span, Ordering::SeqCst);
}

fn draw() -> u64 {
    let mut drawn =
        CHANCE.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::SeqCst).wrapping_add(0x9e37_79b9_7f4a_7c15);
    drawn = (drawn ^ (drawn >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    drawn = (drawn ^ (drawn >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    drawn ^ (drawn >> 31)
}

/// `clock_gettime(2)`.
///
/// # Safety
///
/// `time` points to a place for a time.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn clock_gettime(clock: clockid_t, time: *mut timespec) -> c_int {
    if !IS_DECIDED.load(Ordering::SeqCst) {
        // SAFETY: the caller promises what the kernel asks for.
        let answer = unsafe { syscall(SYS_clock_gettime, c_long::from(clock), time) };
        return c_int::try_from(answer).unwrap_or(-1);
    }
    let mut now = NOW.load(Ordering::SeqCst);
    if clock == CLOCK_REALTIME {
        now += BOOT;
    }
    let part = |number: u64| c_long::try_from(number).unwrap_or(c_long::MAX);
    // SAFETY: the caller promises a place for a time.
    unsafe { time.write(timespec { tv_sec: part(now / 1_000_000_000), tv_nsec: part(now % 1_000_000_000) }) };
    0
}

/// `getrandom(2)`.
///
/// # Safety
///
/// `bytes` points to a place for `len` bytes, or `len` is zero.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn getrandom(bytes: *mut c_void, len: size_t, flags: c_uint) -> ssize_t {
    if !IS_DECIDED.load(Ordering::SeqCst) {
        // SAFETY: the caller promises what the kernel asks for.
        let answer = unsafe { syscall(SYS_getrandom, bytes, len, flags) };
        return ssize_t::try_from(answer).unwrap_or(-1);
    }
    for offset in 0..len {
        // SAFETY: the caller promises a place for `len` bytes.
        unsafe { bytes.cast::<u8>().add(offset).write(draw().to_le_bytes()[0]) };
    }
    ssize_t::try_from(len).unwrap_or(ssize_t::MAX)
}
