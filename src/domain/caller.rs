//! Who asks, and the proof that they may.
//!
//! Every operation takes one of these as its first argument, so an operation without authentication, or without its
//! permission, does not compile.

use super::{Actor, ClientId, Permission, Permissions, RequestInfo, Scope};

/// A token whose credential was proven just now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proven {
    /// Which token, in which environment.
    pub client_id: ClientId,
    /// Where it belongs.
    pub scope: Scope,
    /// What it may do there.
    pub permissions: Permissions,
}

/// Somebody proven, inside one environment of one platform.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Who.
    pub actor: Actor,
    /// What they can see at all.
    pub scope: Scope,
    /// What they may do there.
    pub permissions: Permissions,
    /// The request that they came with, for the audit log.
    pub request: RequestInfo,
}

impl Caller {
    /// The holder of a token that was proven, with the request that it came with.
    pub fn of(proven: Proven, request: RequestInfo) -> Self {
        Self { actor: Actor::Token(proven.client_id.token), scope: proven.scope, permissions: proven.permissions, request }
    }
}

/// A proven caller without the permission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forbidden {
    /// What is missing.
    pub required: Permissions,
}

impl Caller {
    /// Reading tokens needs VIEW or MANAGE.
    ///
    /// # Errors
    /// [`Forbidden`] names VIEW, the smaller of the two.
    pub fn may_read(self) -> Result<MayRead, Forbidden> {
        if self.permissions.contains(Permission::View) || self.permissions.contains(Permission::Manage) {
            Ok(MayRead(self))
        } else {
            Err(Forbidden { required: Permissions::NONE.with(Permission::View) })
        }
    }

    /// Creating and ending tokens needs MANAGE.
    ///
    /// # Errors
    /// [`Forbidden`] names MANAGE.
    pub fn may_manage(self) -> Result<MayManage, Forbidden> {
        if self.permissions.contains(Permission::Manage) {
            Ok(MayManage(self))
        } else {
            Err(Forbidden { required: Permissions::NONE.with(Permission::Manage) })
        }
    }
}

/// A caller that may read tokens.
#[derive(Debug, Clone)]
pub struct MayRead(Caller);

/// A caller that may create and end tokens.
#[derive(Debug, Clone)]
pub struct MayManage(Caller);

impl MayRead {
    /// The caller.
    pub const fn caller(&self) -> &Caller {
        &self.0
    }
}

impl MayManage {
    /// The caller.
    pub const fn caller(&self) -> &Caller {
        &self.0
    }
}

/// A person with access to the machine and its key file, who runs commands. May do everything. (The admin listener makes
/// one too, of whoever reaches it, and lets them read.)
#[derive(Debug, Clone)]
pub struct Operator {
    /// The name of their account on the machine.
    pub name: String,
    /// The command that they came with.
    pub request: RequestInfo,
}

impl Operator {
    /// Who it is, for the audit log.
    pub fn actor(&self) -> Actor {
        Actor::Operator(self.name.clone())
    }

    /// The operator as a caller inside `scope`, with every permission.
    pub fn within(&self, scope: Scope) -> Caller {
        Caller { actor: self.actor(), scope, permissions: Permissions::ALL, request: self.request.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Environment, PlatformId};

    #[test]
    fn z_04_read_needs_view_or_manage_and_change_needs_manage() {
        for bits in 0..8 {
            let caller = Caller {
                actor: Actor::System,
                scope: Scope { platform: PlatformId(uuid::Uuid::nil()), environment: Environment::Sandbox },
                permissions: Permissions::from_bits(bits),
                request: RequestInfo::default(),
            };
            let (view, manage) = (bits & 1 != 0, bits & 4 != 0);
            assert_eq!(caller.clone().may_read().is_ok(), view || manage, "{bits:03b}");
            assert_eq!(caller.may_manage().is_ok(), manage, "{bits:03b}");
        }
    }
}
