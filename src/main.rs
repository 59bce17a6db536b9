//! The `millrace` binary.

use std::io::Write;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let status = millrace::cli::main();
    // Nothing more can be reported of an error here.
    let _ = std::io::stdout().flush();
    // Threads of librdkafka may still be at work for a client that was dropped. An orderly exit runs OpenSSL's exit handler,
    // which takes from under a handshake what it uses.
    // SAFETY: the call has no conditions.
    unsafe { libc::_exit(status) }
}
