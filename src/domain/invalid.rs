//! What is wrong with an input: every broken field at once.

/// One broken field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where: a member, parameter or header name, `body` for the whole body.
    pub field: String,
    /// For people: what is wrong and what would be right. Never repeats the input, which may hold a secret.
    pub message: String,
    /// For programs: the rule that was broken, a stable word such as `required`.
    pub constraint: &'static str,
}

/// One or more problems of one input.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Invalid {
    problems: Vec<Problem>,
}

impl Invalid {
    /// An input with a single problem.
    pub fn one(field: &str, constraint: &'static str, message: impl Into<String>) -> Self {
        let mut invalid = Self::default();
        invalid.add(field, constraint, message);
        invalid
    }

    /// Notes another problem.
    pub fn add(&mut self, field: &str, constraint: &'static str, message: impl Into<String>) {
        self.problems.push(Problem { field: field.to_owned(), message: message.into(), constraint });
    }

    /// Keeps `result`'s value, or notes its problems and goes on.
    pub fn take<T>(&mut self, result: Result<T, Invalid>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(other) => {
                self.problems.extend(other.problems);
                None
            }
        }
    }

    /// `Err` with everything noted so far, if anything was.
    pub fn into_result(self) -> Result<(), Self> {
        if self.problems.is_empty() { Ok(()) } else { Err(self) }
    }

    /// The problems, in the order in which they were found.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}
