//! Random bytes, as the authority asks for them. The only file that reads the machine's generator.

use rustix::{io::Errno, rand::GetRandomFlags};

/// A source of random bytes. Tests bring their own.
pub trait Entropy: Send + Sync {
    /// Fills `bytes`.
    ///
    /// # Errors
    /// [`NoEntropy`]: nothing is made then; there is no weaker source.
    fn fill(&self, bytes: &mut [u8]) -> Result<(), NoEntropy>;
}

/// The generator failed.
#[derive(Debug)]
pub struct NoEntropy(pub String);

/// The operating system's generator.
#[derive(Debug, Clone, Copy)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), NoEntropy> {
        let mut filled = 0;
        while filled < bytes.len() {
            // The system call itself: a static program in an empty root finds neither the C library's nor a device.
            #[expect(clippy::disallowed_methods, reason = "this is the entropy")]
            match rustix::rand::getrandom(&mut bytes[filled..], GetRandomFlags::empty()) {
                Ok(more) => filled += more,
                Err(Errno::INTR) => {}
                Err(e) => return Err(NoEntropy(e.to_string())),
            }
        }
        Ok(())
    }
}
