//! What a token may do.

use std::fmt;

/// One permission. Stored and sent by name, never by position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permission {
    /// Reads.
    View,
    /// Sends payments.
    Transact,
    /// Changes platform configuration, tokens and customers.
    Manage,
}

impl Permission {
    /// All permissions, in the order in which they are always shown.
    pub const ALL: [Self; 3] = [Self::View, Self::Transact, Self::Manage];

    /// The name, as Grid, the database and the command line write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::View => "VIEW",
            Self::Transact => "TRANSACT",
            Self::Manage => "MANAGE",
        }
    }

    /// The permission of that exact name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|p| p.name() == text)
    }
}

/// The text of each set, by its bits.
const TEXTS: [&str; 8] = ["", "VIEW", "TRANSACT", "VIEW,TRANSACT", "MANAGE", "VIEW,MANAGE", "TRANSACT,MANAGE", "VIEW,TRANSACT,MANAGE"];

/// A set of permissions.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Permissions(u8);

impl Permissions {
    /// The empty set: no token has it, but a set is built from it.
    pub const NONE: Self = Self(0);
    /// Everything: what an operator-issued root token has.
    pub const ALL: Self = Self(0b111);

    /// This set with `permission` added.
    #[must_use]
    pub const fn with(self, permission: Permission) -> Self {
        Self(self.0 | 1 << permission as u8)
    }

    /// Whether `permission` itself is in the set.
    pub const fn contains(self, permission: Permission) -> bool {
        self.0 & 1 << permission as u8 != 0
    }

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// What of `wanted` a holder of this set may not pass on; MANAGE carries VIEW.
    #[must_use]
    pub const fn lacking(self, wanted: Self) -> Self {
        let held = if self.contains(Permission::Manage) { self.with(Permission::View) } else { self };
        Self(wanted.0 & !held.0)
    }

    /// The members, in the order VIEW, TRANSACT, MANAGE.
    pub fn iter(self) -> impl Iterator<Item = Permission> {
        Permission::ALL.into_iter().filter(move |p| self.contains(*p))
    }

    /// The set as three bits, for the index and the seal.
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// The set of those three bits; higher ones are cut off.
    pub const fn from_bits(bits: u8) -> Self {
        Self(bits & Self::ALL.0)
    }

    /// `VIEW,MANAGE`: the form that [`Permissions::parse`] reads.
    pub const fn text(self) -> &'static str {
        TEXTS[self.0 as usize]
    }

    /// Reads `VIEW,MANAGE`; at least one, known names only.
    pub fn parse(text: &str) -> Option<Self> {
        // As it is stored: a page reads a hundred of these.
        if let Some(bits) = TEXTS.iter().skip(1).position(|known| *known == text) {
            return Some(Self(bits as u8 + 1));
        }
        let set = text.split(',').try_fold(Self::NONE, |set, name| Some(set.with(Permission::parse(name)?)))?;
        (!set.is_empty()).then_some(set)
    }
}

impl From<Permission> for Permissions {
    fn from(permission: Permission) -> Self {
        Self::NONE.with(permission)
    }
}

impl FromIterator<Permission> for Permissions {
    fn from_iter<I: IntoIterator<Item = Permission>>(permissions: I) -> Self {
        permissions.into_iter().fold(Self::NONE, Self::with)
    }
}

impl fmt::Display for Permissions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl fmt::Debug for Permissions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{self}}}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_set_round_trips_through_its_text_but_the_empty_one() {
        for bits in 0..8 {
            let set = Permissions::from_bits(bits);
            let expected = (bits != 0).then_some(set);
            assert_eq!(Permissions::parse(set.text()), expected, "{set:?}");
            assert_eq!(set.text(), set.iter().map(Permission::name).collect::<Vec<_>>().join(","));
        }
    }

    #[test]
    fn manage_carries_view_and_nothing_else_carries_anything() {
        let manage = Permissions::NONE.with(Permission::Manage);
        assert_eq!(manage.lacking(Permissions::ALL), Permissions::NONE.with(Permission::Transact));
        let view = Permissions::NONE.with(Permission::View);
        assert_eq!(view.lacking(manage), manage);
        assert_eq!(manage.lacking(view), Permissions::NONE);
    }

    #[test]
    fn names_are_exact() {
        for text in ["", "view", "VIEW ", " VIEW", "VIEW,", ",VIEW", "ADMIN", "VIEW;MANAGE"] {
            assert_eq!(Permissions::parse(text), None, "{text:?}");
        }
        assert_eq!(Permissions::parse("MANAGE,VIEW,MANAGE").unwrap().to_string(), "VIEW,MANAGE");
    }
}
