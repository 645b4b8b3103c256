//! Forms that make something, sent again: by a double click, by going back, by loading the answer again.

use std::time::Duration;

use countersign::{
    authority::{Error, OneTimeKey},
    domain::Role,
};
use futures_util::future::join;

use super::{Browser, hidden, text};
use crate::{
    operators::{name, token_name},
    support::{TestApp, operator, page},
};

const FORMS: [(&str, &[(&str, &str)]); 3] = [
    ("/platforms", &[("name", "Globex")]),
    ("/operators", &[("name", "carol"), ("role", "manager"), ("platform", "")]),
    ("/account", &[("name", "exporter"), ("lasts", "30")]),
];

/// How many there are of what the three make.
async fn counts(app: &TestApp) -> [usize; 3] {
    let platforms = app.authority.list_platforms(&operator()).await.unwrap().len();
    let accounts = app.authority.list_accounts(&operator()).await.unwrap().len();
    let tokens = app.authority.list_operator_tokens(&operator(), name("owner")).await.unwrap().len();
    [platforms, accounts, tokens]
}

#[tokio::test]
async fn what_is_sent_twice_is_made_once() {
    let mut app = TestApp::new().await;
    let (cookie, key) = {
        let owner = Browser::invited(&app, "owner", Role::Owner, None).await;
        (owner.cookie.clone(), owner.key.clone())
    };
    let mut sent = Vec::new();
    for (path, fields) in FORMS {
        let owner = Browser { app: &app, cookie: cookie.clone(), key: key.clone() };
        let once = hidden(&owner.reads(path).await, "once");
        assert_ne!(once, hidden(&owner.reads(path).await, "once"));
        let form = [fields, &[("once", &*once)]].concat();
        // At the same moment: one has made it, and shows what is shown once; the other says so.
        let (one, other) = join(owner.sends(path, &form), owner.sends(path, &form)).await;
        let (made, told) = if one.status == 201 { (one, other) } else { (other, one) };
        assert!(!page::shown_once(&made.expect(201)).is_empty());
        let made = app.place().await;
        let again = owner.sends(path, &form).await.expect(200);
        for told in [told.expect(200), again] {
            assert!(page::shown_once(&told).is_empty() && text(&told).contains("by the form that you sent before"), "{told:?}");
        }
        assert_eq!(app.place().await, made);
        sent.push((path, form.iter().map(|(name, value)| (*name, (*value).to_owned())).collect::<Vec<_>>()));
    }
    let before = counts(&app).await;
    // At another server, behind a restart, with the clock gone on.
    app.clock.advance(Duration::from_secs(20 * 60));
    let _first = app.try_replace(|_| {}).await.unwrap();
    let owner = Browser { app: &app, cookie, key };
    let made = app.place().await;
    for (path, form) in &sent {
        let told = owner.sends(path, &super::fields(form)).await.expect(200);
        assert!(page::shown_once(&told).is_empty(), "{told:?}");
    }
    assert_eq!((counts(&app).await, app.place().await), (before, made));

    // What is asked for anew is another form's, whatever key it has.
    let changed = |at: usize, field: usize, value: &str| {
        let (path, mut form) = sent[at].clone();
        form[field].1 = value.to_owned();
        (path, form)
    };
    for (at, field, value, status) in [(0, 0, "Initech", 201), (1, 0, "dave", 201), (1, 1, "owner", 409), (2, 0, "importer", 201)] {
        let (path, form) = changed(at, field, value);
        let answer = owner.sends(path, &super::fields(&form)).await.expect(status);
        assert!(!text(&answer).contains("sent before"), "{answer:?}");
    }
    // Nor does anybody make what another one's form has made.
    let other = Browser::invited(&app, "other", Role::Owner, None).await;
    let (path, form) = &sent[0];
    other.sends(path, &super::fields(form)).await.expect(201);
    for (path, form) in &sent {
        for once in ["", "x", &"0".repeat(44), &form.last().unwrap().1.to_uppercase()] {
            let mut form = form.clone();
            form.last_mut().unwrap().1 = once.to_owned();
            let refused = text(&owner.sends(path, &super::fields(&form)).await.expect(400));
            assert!(refused.contains("The form ") && refused.contains("load it again"), "{refused}");
        }
    }
}

#[tokio::test]
async fn a_form_is_good_for_a_day_and_lists_are_by_when_it_was_sent() {
    let app = TestApp::new().await;
    app.authority.create_account(&operator(), name("alice"), Role::Viewer, None, None).await.unwrap();
    let key = app.authority.one_time_key().unwrap();
    let form = || Some(OneTimeKey::parse(&key).unwrap());
    app.clock.advance(Duration::from_secs(60));
    for named in ["second", "by an older page"] {
        let form = if named == "second" { None } else { form() };
        app.authority.create_platform(&operator(), token_name(named), form).await.unwrap();
        app.clock.advance(Duration::from_secs(60));
    }
    let platforms = app.authority.list_platforms(&operator()).await.unwrap();
    let names: Vec<_> = platforms.iter().map(|platform| platform.name.as_str()).collect();
    assert_eq!(names, ["Acme", "second", "by an older page"]);
    for (named, form) in [("second", None), ("by an older page", form())] {
        app.authority.create_operator_token(&operator(), name("alice"), token_name(named), None, form).await.unwrap();
        app.clock.advance(Duration::from_secs(60));
    }
    let tokens = app.authority.list_operator_tokens(&operator(), name("alice")).await.unwrap();
    assert_eq!(tokens.iter().map(|token| token.name.as_str()).collect::<Vec<_>>(), ["by an older page", "second"]);

    let create = async |form| app.authority.create_platform(&operator(), token_name("by an older page"), form).await;
    app.clock.advance(Duration::from_secs(24 * 3600 - 300));
    assert!(matches!(create(form()).await, Err(Error::MadeBefore)));
    app.clock.advance(Duration::from_secs(1));
    assert!(matches!(create(form()).await, Err(Error::Invalid(_))), "too old");
    let ahead = |seconds: i64| {
        let now = countersign::authority::Clock::wall(&*app.clock).plus_millis(seconds * 1000);
        OneTimeKey::parse(&format!("{:012x}{}", now.millis(), &key[12..])).ok()
    };
    assert!(matches!(create(ahead(61)).await, Err(Error::Invalid(_))), "from a clock that nobody has");
    assert!(create(ahead(59)).await.is_ok());
}
