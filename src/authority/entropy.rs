//! Random bytes, as the authority asks for them. The only file that reads the machine's generator.

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
        #[expect(clippy::disallowed_methods, reason = "this is the entropy")]
        getrandom::fill(bytes).map_err(|e| NoEntropy(e.to_string()))
    }
}
