//! What the allocator keeps of memory that is free.
#![allow(unsafe_code)] // malloc_trim and mallopt have no safe wrapper

/// One heap for all threads, for a program that starts short-lived ones again and again: glibc would give each of several
/// a heap of its own, of which it returns little. To be called before there are threads.
pub fn one_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes no pointer, and changes only where memory is taken from.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Gives free memory back: of what came in small pieces glibc would keep it for the rest of the run.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes no pointer, and only releases memory that nobody uses.
    unsafe {
        libc::malloc_trim(0);
    }
}
