//! Looking for tokens, as operators do: by all that is asked, and over no more rows than a page may take.

use std::time::Duration;

use countersign::{
    authority::{Error, Found},
    domain::{
        Environment, LastUse, NewToken, Operator, Order, PageLimit, Permission, Permissions, PlatformId, Role, Scope, Timestamp, TokenId,
        TokenSearch,
    },
};
use futures_util::future::join_all;

use crate::{
    operators::{Person, token_name},
    support::{GRID, START, TestApp, database, operator},
};

fn names(found: &[Found]) -> Vec<&str> {
    found.iter().map(|found| found.token.name.as_str()).collect()
}

async fn staff(app: &TestApp, of: PlatformId) -> Operator {
    Person::invited(app, "staff", Role::Viewer, Some(of)).await.1.operator(Default::default())
}

#[tokio::test]
async fn all_that_is_asked_holds() {
    let app = TestApp::new().await;
    let (other, pairs) = app.another_platform("Other").await;
    let a_minute = async || app.clock.advance(Duration::from_secs(60));
    app.token("Größe XL", &["VIEW"]).await;
    a_minute().await;
    let used = app.token("payouts 100%_a", &["VIEW", "TRANSACT"]).await;
    a_minute().await;
    let ended = app.token("PAYOUTS two", &["MANAGE"]).await;
    a_minute().await;
    app.token_by(&pairs[1], "Payouts three", &["VIEW"]).await;
    app.delete(&format!("{GRID}/{}", ended.id)).send().await.expect(204);
    app.get("/verify").auth(&used).send().await.expect(200);
    app.authority.flush().await.unwrap();
    let used_at = Timestamp::from_millis(START + 180_000);

    let by = operator();
    let find = async |search: TokenSearch| {
        let page = app.authority.search_tokens(&by, &search).await.unwrap();
        assert!(page.next.is_none());
        names(&page.found).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let named = |part: &str| TokenSearch { name: Some(part.to_owned()), ..TokenSearch::default() };
    let payouts = ["Payouts three", "PAYOUTS two", "payouts 100%_a"];
    assert_eq!(find(named("pAyOuTs")).await, payouts);
    // Nothing in it is a pattern, and case is a matter of a to z alone.
    assert_eq!((find(named("%")).await, find(named("_a")).await), (vec![payouts[2].to_owned()], vec![payouts[2].to_owned()]));
    assert_eq!((find(named("gRößE")).await, find(named("GRÖ")).await), (vec!["Größe XL".to_owned()], vec![]));
    assert_eq!(find(TokenSearch { order: Order::OldestFirst, ..named("payouts") }).await, [payouts[2], payouts[1], payouts[0]]);
    assert_eq!(find(TokenSearch { live: Some(true), ..named("payouts") }).await, [payouts[0], payouts[2]]);
    assert_eq!(find(TokenSearch { live: Some(false), ..TokenSearch::default() }).await, [payouts[1]]);
    assert_eq!(find(TokenSearch { permission: Some(Permission::Transact), ..named("payouts") }).await, [payouts[2]]);
    let by_use = |used| TokenSearch { used: Some(used), ..named("payouts") };
    assert_eq!(find(by_use(LastUse::Never)).await, payouts[..2]);
    assert_eq!(find(by_use(LastUse::Since(used_at))).await, payouts[2..]);
    // When it was used is known by the minute.
    assert_eq!(find(by_use(LastUse::Since(used_at.plus_millis(60_000)))).await, [""; 0]);
    assert_eq!(find(by_use(LastUse::Before(used_at.plus_millis(60_000)))).await, payouts);
    // Of those that were never used, one was not there before that moment.
    assert_eq!(find(by_use(LastUse::Before(used_at))).await, payouts[1..2]);
    let within = |platform, environment| TokenSearch { scope: Some(Scope { platform, environment }), ..named("payouts") };
    assert_eq!(find(within(app.platform.id, Environment::Sandbox)).await, payouts[1..]);
    assert_eq!(find(within(other.id, Environment::Production)).await, payouts[..1]);
    assert_eq!(find(within(other.id, Environment::Sandbox)).await, [""; 0]);
    assert_eq!(find(TokenSearch { until: Timestamp::from_millis(START + 60_000), ..named("payouts") }).await, payouts[2..]);

    let since = |minutes: i64| TokenSearch { from: Timestamp::from_millis(START + minutes * 60_000), ..named("payouts") };
    assert_eq!(
        (find(since(1)).await, find(since(2)).await),
        (payouts.map(str::to_owned).to_vec(), vec![payouts[0].to_owned(), payouts[1].to_owned()])
    );

    // Page by page it is the same.
    let (mut paged, mut after) = (Vec::new(), None);
    loop {
        let search = TokenSearch { after, limit: PageLimit::new(1).unwrap(), ..named("payouts") };
        let page = app.authority.search_tokens(&by, &search).await.unwrap();
        paged.extend(names(&page.found).into_iter().map(str::to_owned));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(paged, payouts);
}

#[tokio::test]
async fn the_staff_of_one_platform_look_there_alone() {
    let app = TestApp::new().await;
    let (other, _) = app.another_platform("Other").await;
    app.token("mine", &["VIEW"]).await;
    let staff = staff(&app, app.platform.id).await;
    let look = async |scope| app.authority.search_tokens(&staff, &TokenSearch { scope, ..TokenSearch::default() }).await;
    let half = |platform| Some(Scope { platform, environment: Environment::Sandbox });
    assert!(matches!(look(None).await, Err(Error::RoleLacking(_))));
    assert!(matches!(look(half(other.id)).await, Err(Error::NotFound)));
    let found = look(half(app.platform.id)).await.unwrap().found;
    assert!(names(&found).contains(&"mine") && found.iter().all(|found| found.token.scope.platform == app.platform.id));
}

#[tokio::test]
async fn z_11_an_edited_row_is_not_found_and_noted() {
    let app = TestApp::new().await;
    app.token("whole", &["VIEW"]).await;
    app.token("edited", &["VIEW"]).await;
    database::edit(app.directory.path(), "UPDATE token SET name = 'whole too' WHERE name = 'edited'");
    let search = TokenSearch { name: Some("whole".to_owned()), ..TokenSearch::default() };
    let page = app.authority.search_tokens(&operator(), &search).await.unwrap();
    assert_eq!((names(&page.found), page.next), (vec!["whole"], None));
    assert!(app.metrics().await.contains("countersign_integrity_failures 1\n"));
}

/// A page reads 10,000 rows at the most, however many tokens there are; whoever goes on finds what is at the end.
#[tokio::test]
async fn a_page_takes_no_longer_for_more_tokens() {
    const TOKENS: usize = 25_000;
    let app = TestApp::new().await;
    let by = operator().within(Scope { platform: app.platform.id, environment: Environment::Production }).may_manage().unwrap();
    let create = |name: &str| {
        let new = NewToken { name: token_name(name), permissions: Permissions::parse("VIEW").unwrap() };
        let (by, authority) = (by.clone(), app.authority.clone());
        async move { authority.create_token(&by, new, None).await.unwrap().token.id }
    };
    let wanted = create("the one at the end").await;
    app.clock.advance(Duration::from_millis(1));
    let mut ids: Vec<TokenId> = Vec::with_capacity(TOKENS);
    while ids.len() < TOKENS {
        ids.extend(join_all((0..1000).map(|_| create("one of many"))).await);
        app.clock.advance(Duration::from_millis(1));
    }
    ids.sort();
    let scope = Some(Scope { platform: app.platform.id, environment: Environment::Production });
    let search = |after| TokenSearch { scope, name: Some("AT THE END".to_owned()), after, ..TokenSearch::default() };
    for (page, behind) in [None, Some(10_000), Some(20_000)].into_iter().enumerate() {
        let after = behind.map(|rows: usize| ids[TOKENS - rows]);
        let found = app.authority.search_tokens(&operator(), &search(after)).await.unwrap();
        match page {
            2 => assert_eq!((found.found[0].token.id, found.next), (wanted, None)),
            page => assert_eq!((found.found.len(), found.next), (0, Some(ids[TOKENS - (page + 1) * 10_000]))),
        }
    }
    // So it is for programs: two pages with nothing and a place to go on from, and the third has it.
    let viewer = app.program("viewer", Role::Viewer, None).await;
    let (mut pages, mut cursor) = (Vec::new(), Some(String::new()));
    while let Some(place) = cursor {
        let page = app.v1_get(&format!("/tokens?namePart=at+the+end&cursor={place}"), &viewer).await.expect(200).json();
        pages.push(page["tokens"].as_array().unwrap().len());
        cursor = page["nextCursor"].as_str().filter(|_| pages.len() < 5).map(str::to_owned);
    }
    assert_eq!(pages, [0, 0, 1]);
    // Of a page that is full at once no more is read than that takes: the next begins behind its last.
    let all = app.authority.search_tokens(&operator(), &TokenSearch { scope, ..TokenSearch::default() }).await.unwrap();
    assert_eq!(all.next, all.found.last().map(|found| found.token.id));
}
