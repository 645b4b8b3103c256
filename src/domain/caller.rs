//! Who asks, and the proof that they may.
//!
//! Every operation takes one of these as its first argument, so an operation without authentication, or without its
//! permission, does not compile.

use std::{fmt, ops::Deref};

use super::{Account, Actor, ClientId, Issuer, Permission, Permissions, PlatformId, RequestInfo, Role, Scope, Timestamp};

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
    /// As whom they issue tokens. Whoever issues them as the operator ends those too that the platform itself can't.
    pub issuer: Issuer,
    /// The request that they came with, for the audit log.
    pub request: RequestInfo,
}

impl Caller {
    /// The holder of a token that was proven, with the request that it came with.
    pub fn of(proven: Proven, request: RequestInfo) -> Self {
        let actor = Actor::Token(proven.client_id.token);
        Self { actor, scope: proven.scope, permissions: proven.permissions, issuer: Issuer::Platform, request }
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

/// Somebody proven who runs platforms: all of them, or one.
#[derive(Debug, Clone)]
pub struct Operator {
    name: String,
    role: Role,
    platform: Option<PlatformId>,
    request: RequestInfo,
    /// When what proved them ends, if it does by itself.
    until: Option<Timestamp>,
}

/// An operator without the role that it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoleLacking {
    /// The least role that may.
    pub required: Role,
    /// Whether it takes an operator of all platforms, which they are not.
    pub everywhere: bool,
}

impl fmt::Display for RoleLacking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = if self.everywhere { " of all platforms" } else { "" };
        write!(f, "this takes an operator{of} who is {}; ask an owner for it", self.required)
    }
}

impl Operator {
    /// The holder of an account that was proven just now.
    pub fn of(account: &Account, request: RequestInfo) -> Self {
        Self { name: account.name.as_str().to_owned(), role: account.role, platform: account.platform, request, until: None }
    }

    /// Whoever reaches the admin listener and looks at what it shows to everybody there.
    pub fn looking(request: RequestInfo) -> Self {
        Self { name: "admin-listener".to_owned(), role: Role::Viewer, platform: None, request, until: None }
    }

    /// The same by a token, which ends then.
    #[must_use]
    pub fn ending(self, until: Option<Timestamp>) -> Self {
        Self { until, ..self }
    }

    /// When the token ends that proved them, if it was one that does.
    pub const fn until(&self) -> Option<Timestamp> {
        self.until
    }

    /// Who it is, for the audit log.
    pub fn actor(&self) -> Actor {
        Actor::Operator(self.name.clone())
    }

    /// The name of their account.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What they came with.
    pub const fn request(&self) -> &RequestInfo {
        &self.request
    }

    /// What they may do.
    pub const fn role(&self) -> Role {
        self.role
    }

    /// The only platform that there is for them, if they are its own staff.
    pub const fn platform(&self) -> Option<PlatformId> {
        self.platform
    }

    /// Whether that platform is there for them.
    pub fn sees(&self, platform: PlatformId) -> bool {
        self.platform.is_none_or(|own| own == platform)
    }

    /// The operator as a caller inside `scope`; `None` if its platform is not there for them.
    pub fn within(&self, scope: Scope) -> Option<Caller> {
        let permissions = if self.role >= Role::Manager { Permissions::ALL } else { Permissions::NONE.with(Permission::View) };
        let issuer = if self.platform.is_some() { Issuer::Platform } else { Issuer::Operator };
        self.sees(scope.platform).then(|| Caller { actor: self.actor(), scope, permissions, issuer, request: self.request.clone() })
    }

    /// Issuing and ending tokens.
    ///
    /// # Errors
    /// [`RoleLacking`] if they only look.
    pub fn may_issue(&self) -> Result<(), RoleLacking> {
        if self.role >= Role::Manager { Ok(()) } else { Err(RoleLacking { required: Role::Manager, everywhere: false }) }
    }

    /// Looking at what is of no platform: nodes, keys, settings.
    ///
    /// # Errors
    /// [`RoleLacking`] if one platform is all that there is for them.
    pub const fn may_oversee(&self) -> Result<(), RoleLacking> {
        match self.platform {
            None => Ok(()),
            Some(_) => Err(RoleLacking { required: Role::Viewer, everywhere: true }),
        }
    }

    /// Changing what everybody depends on.
    ///
    /// # Errors
    /// [`RoleLacking`] if they are no owner, or of one platform.
    pub fn may_own(self) -> Result<Owner, RoleLacking> {
        match self {
            Self { role: Role::Owner, platform: None, .. } => Ok(Owner(self)),
            Self { platform, .. } => Err(RoleLacking { required: Role::Owner, everywhere: platform.is_some() }),
        }
    }
}

/// An operator who may do everything.
#[derive(Debug, Clone)]
pub struct Owner(Operator);

impl Owner {
    /// A person with access to the machine and its key file, who runs a command.
    pub const fn at_command_line(name: String, request: RequestInfo) -> Self {
        Self(Operator { name, role: Role::Owner, platform: None, request, until: None })
    }

    /// The owner as a caller inside `scope`, with every permission.
    pub fn within(&self, scope: Scope) -> Caller {
        let Operator { request, .. } = &self.0;
        Caller { actor: self.actor(), scope, permissions: Permissions::ALL, issuer: Issuer::Operator, request: request.clone() }
    }
}

impl Deref for Owner {
    type Target = Operator;

    fn deref(&self) -> &Operator {
        &self.0
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
                issuer: Issuer::Platform,
                request: RequestInfo::default(),
            };
            let (view, manage) = (bits & 1 != 0, bits & 4 != 0);
            assert_eq!(caller.clone().may_read().is_ok(), view || manage, "{bits:03b}");
            assert_eq!(caller.may_manage().is_ok(), manage, "{bits:03b}");
        }
    }

    #[test]
    fn roles_of_operators() {
        let platform = |n| PlatformId(uuid::Uuid::from_u128(n));
        let scope = |n| Scope { platform: platform(n), environment: Environment::Sandbox };
        for role in Role::ALL {
            for bound in [None, Some(platform(1))] {
                let operator = Operator { name: "a".to_owned(), role, platform: bound, request: RequestInfo::default(), until: None };
                let caller = operator.within(scope(1)).unwrap();
                assert_eq!(caller.clone().may_manage().is_ok(), role >= Role::Manager);
                assert_eq!(operator.may_issue().is_ok(), role >= Role::Manager);
                assert_eq!(caller.issuer == Issuer::Operator, bound.is_none());
                assert!(caller.may_read().is_ok());
                assert_eq!(operator.within(scope(2)).is_some(), bound.is_none());
                assert_eq!(operator.may_oversee().is_ok(), bound.is_none());
                assert_eq!(operator.may_own().is_ok(), role == Role::Owner && bound.is_none());
            }
        }
    }
}
