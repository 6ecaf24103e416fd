//! Tests of the bounds of a read of dead letters.

use rusqlite::{Connection, Result};

use crate::outbox::letter_pages::{LetterRead, PAGE_BYTES, PAGE_STEPS};
use crate::outbox::sqlite::letters::{self, oldest};
use crate::outbox::sqlite::schema;
use crate::outbox::{DeadLetters, LetterFilter, LetterIds, LetterPage, LetterWalk, LetterWhy, Outbox};

/// Many letters, whose calls have this size. Only the first one, with the id 1, was given up.
fn fill(conn: &Connection, count: usize, size: usize) {
    let call = format!(r#"{{"messageId":"m","traits":"{}"}}"#, "x".repeat(size));
    let sql = "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < ?1)
               INSERT INTO dead_letters (user_id, stored_at, refused_at, status, attempts, reason, call, why)
               SELECT 'u' || n, 1, n, 400, 1, 'words', CAST(?2 AS BLOB), iif(n = 1, 'gave_up', 'refused') FROM n";
    conn.execute(sql, (count as i64, call)).unwrap();
    conn.execute("UPDATE counters SET dead_letters = ?1", [count as i64]).unwrap();
}

fn filled(count: usize, size: usize) -> Connection {
    let mut conn = Connection::open_in_memory().unwrap();
    schema::migrate(&mut conn).unwrap();
    fill(&conn, count, size);
    conn
}

fn newest(conn: &Connection, limit: usize, filter: &LetterFilter) -> Result<LetterPage> {
    letters::newest(conn, &LetterRead { limit, bytes: PAGE_BYTES, filter: filter.clone() }).map(|(page, _)| page)
}

fn of_user(user: &str) -> LetterFilter {
    LetterFilter { user_id: Some(user.to_owned()), ..LetterFilter::default() }
}

#[test]
fn a_read_looks_at_a_bounded_number_of_letters() {
    let conn = filled(2_500, 10);
    let mut filter = LetterFilter { why: Some(LetterWhy::GaveUp), ..LetterFilter::default() };
    for next in [1_501, 501] {
        let page = newest(&conn, 10, &filter).unwrap();
        assert_eq!((page.letters.len(), page.next), (0, Some(next)));
        filter.before = page.next;
    }
    let page = newest(&conn, 10, &filter).unwrap();
    assert_eq!((page.letters[0].id, page.letters[0].why.as_str(), page.next), (1, "gave_up", None));

    let LetterIds { ids, next, .. } = oldest(&conn, 0, 10, &of_user("u2400")).unwrap();
    assert_eq!((ids.len(), next), (0, Some(1_001)));
    let LetterIds { ids, next, .. } = oldest(&conn, 2_001, 10, &of_user("u2400")).unwrap();
    assert_eq!((ids, next), (vec![2_400], None));
}

#[test]
fn the_letters_of_a_step_fit_into_a_transaction() {
    let conn = filled(1_000, 30_000);
    let LetterIds { ids, next, .. } = oldest(&conn, 0, usize::MAX, &LetterFilter::default()).unwrap();
    assert_eq!((ids.len(), next), (35, Some(36)));
    let conn = filled(1_000, 10);
    let LetterIds { ids, next, .. } = oldest(&conn, 0, usize::MAX, &LetterFilter::default()).unwrap();
    assert_eq!((ids.len(), next), (256, Some(257)));
    let LetterIds { ids, next, .. } = oldest(&conn, 998, usize::MAX, &LetterFilter::default()).unwrap();
    assert_eq!((ids, next), (vec![998, 999, 1_000], None));
}

#[test]
fn a_page_says_that_there_is_more_only_if_there_is() {
    let conn = filled(5, 10);
    let next = |limit, filter: &LetterFilter| newest(&conn, limit, filter).unwrap().next;
    assert_eq!([4, 5, 6].map(|limit| next(limit, &LetterFilter::default())), [Some(2), None, None]);
    assert_eq!(next(1, &of_user("u3")), None);
}

#[tokio::test]
async fn a_page_is_short_rather_than_late() {
    let directory = super::in_memory();
    let path = directory.path().join("outbox.db");
    let store = super::open(&super::settings(&path)).unwrap();
    store.close().await;
    let count = PAGE_STEPS * 1_000 + 5;
    fill(&Connection::open(&path).unwrap(), count, 10);
    let store = super::open(&super::settings(&path)).unwrap();
    let page = store.list(10, of_user("u1")).await.unwrap();
    assert_eq!((page.letters.len(), page.next), (0, Some(6)));
    let page = store.list(10, LetterFilter { before: page.next, ..of_user("u1") }).await.unwrap();
    assert_eq!((page.letters.len(), page.next), (1, None));
    let mut walk = LetterWalk::start(store.clone(), of_user(&format!("u{count}"))).await.unwrap();
    assert_eq!(walk.step(usize::MAX).await.unwrap().unwrap().ids, [count as i64]);
    assert!(walk.step(usize::MAX).await.unwrap().is_none());
    store.close().await;
}

#[tokio::test]
async fn a_page_has_a_bounded_number_of_bytes_and_at_least_one_letter() {
    let directory = super::in_memory();
    let path = directory.path().join("outbox.db");
    let store = super::open(&super::settings(&path)).unwrap();
    store.close().await;
    let conn = Connection::open(&path).unwrap();
    fill(&conn, 10, 1_000_000);
    // A reason, and the headers of an event, count as the call does.
    conn.execute("UPDATE dead_letters SET reason = printf('%.*c', 4000000, 'x') WHERE id = 8", []).unwrap();
    drop(conn);
    let store = super::open(&super::settings(&path)).unwrap();
    let (mut pages, mut filter) = (Vec::new(), LetterFilter::default());
    loop {
        let LetterPage { letters, next } = store.list(10, filter.clone()).await.unwrap();
        pages.push(letters.iter().map(|letter| letter.id).collect::<Vec<_>>());
        filter.before = next;
        if next.is_none() {
            break;
        }
    }
    assert_eq!(pages, [&[10, 9, 8][..], &[7, 6, 5, 4, 3], &[2, 1]]);
    store.close().await;
}
