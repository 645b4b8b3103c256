//! All operations, arranged so that a request finds its own: a tree of path segments.
//!
//! A literal segment wins over one with a parameter, at each segment from the left, and what a path leads to decides
//! alone: if the operation there has not the request's method, no other path is tried. `HEAD` is `GET` where it is not
//! described itself, because servers answer it so.

use std::collections::{HashMap, HashSet};

use super::{Invalid, Operation, Target};

/// The operations of a platform's API. Nothing is allocated to find one.
#[derive(Debug, Clone, Default)]
pub struct Operations {
    all: Vec<Operation>,
    nodes: Vec<Node>,
}

/// A place in the tree; the first one is the root.
#[derive(Debug, Clone, Default)]
struct Node {
    /// In order.
    literals: Vec<(Box<str>, usize)>,
    /// The more literal ones first.
    patterns: Vec<(Pattern, usize)>,
    /// Method and place among all operations, where a path ends here.
    methods: Vec<(Box<str>, usize)>,
}

/// A segment with parameters: the literal texts before, between and behind them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Pattern(Vec<Box<str>>);

/// Why no operation was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoOperation {
    /// No operation has this path.
    Path,
    /// One has, but not with this method.
    Method,
    /// The path as it was sent and decoded leads to two different ones.
    Ambiguous,
}

impl Pattern {
    fn parse(segment: &str) -> Option<Self> {
        let (mut literals, mut rest) = (Vec::new(), segment);
        while let Some((before, behind)) = rest.split_once('{') {
            let (name, behind) = behind.split_once('}')?;
            // Two parameters without anything in between could be divided in many ways.
            if name.is_empty() || name.contains('{') || before.contains('}') || (before.is_empty() && !literals.is_empty()) {
                return None;
            }
            literals.push(before.into());
            rest = behind;
        }
        literals.push(rest.into());
        (!rest.contains('}')).then_some(Self(literals))
    }

    fn literal_len(&self) -> usize {
        self.0.iter().map(|text| text.len()).sum()
    }

    /// Whether a segment fits, with at least one character for each parameter.
    fn fits(&self, segment: &str) -> bool {
        let [first, between @ .., last] = self.0.as_slice() else { return false };
        let Some(mut rest) = segment.strip_prefix(&**first) else { return false };
        for literal in between {
            let Some(at) = rest.char_indices().skip(1).find(|(at, _)| rest[*at..].starts_with(&**literal)).map(|(at, _)| at) else {
                return false;
            };
            rest = &rest[at + literal.len()..];
        }
        rest.strip_suffix(&**last).is_some_and(|value| !value.is_empty())
    }
}

/// The tree while it is made, with what finds a place below another at once: a document is whoever's that sends it.
#[derive(Default)]
struct Arranging<'o> {
    nodes: Vec<Node>,
    literals: HashMap<(usize, &'o str), usize>,
    patterns: HashMap<(usize, Pattern), usize>,
    methods: HashSet<(usize, &'o str)>,
}

impl<'o> Arranging<'o> {
    fn insert(&mut self, operation: &'o Operation, place: usize) -> Result<(), (&'static str, &'static str)> {
        let path = operation.path.strip_prefix('/').ok_or(("path", "must begin with a slash"))?;
        if path.len() > Operations::LONGEST || operation.method.len() > Operations::LONGEST {
            return Err(("max_length", "is longer than any request's"));
        }
        let plain = path.replace(['{', '}'], "");
        if Target::parse(&format!("/{plain}")).is_err() || plain.contains(['%', '?']) {
            return Err(("path", "must be a path that is read in one way: no empty or dot segment, nothing encoded, no query"));
        }
        let mut at = 0;
        for segment in path.split('/') {
            at = self.child(at, segment).ok_or(("path", "has braces that are no parameters, or parameters next to each other"))?;
        }
        if !self.methods.insert((at, &operation.method)) {
            return Err(("unique", "stands there twice, be it with other names of parameters"));
        }
        self.nodes[at].methods.push((operation.method.as_str().into(), place));
        Ok(())
    }

    /// The node of a segment below another, made if need be.
    fn child(&mut self, at: usize, segment: &'o str) -> Option<usize> {
        let (new, node) = (self.nodes.len(), &mut self.nodes[at]);
        let child = if segment.contains(['{', '}']) {
            let pattern = Pattern::parse(segment)?;
            *self.patterns.entry((at, pattern.clone())).or_insert_with(|| {
                node.patterns.push((pattern, new));
                new
            })
        } else {
            *self.literals.entry((at, segment)).or_insert_with(|| {
                node.literals.push((segment.into(), new));
                new
            })
        };
        if child == new {
            self.nodes.push(Node::default());
        }
        Some(child)
    }
}

impl Operations {
    /// Operations at the most: an API has hundreds.
    pub const MOST: usize = 20_000;
    /// Segments of all paths together at the most, those that paths have in common counted once.
    pub const SEGMENTS: usize = 200_000;
    /// Bytes of a path, and of a method.
    pub const LONGEST: usize = 2048;

    /// Arranges operations.
    ///
    /// # Errors
    /// That there are too many; or all paths that can't be arranged, and all operations that stand there twice.
    pub fn new(all: Vec<Operation>) -> Result<Self, Invalid> {
        let too_many = |what: &str, most: usize| Invalid::one("operations", "max_items", format!("must have at most {most} {what}"));
        if all.len() > Self::MOST {
            return Err(too_many("operations", Self::MOST));
        }
        let (mut tree, mut invalid) = (Arranging { nodes: vec![Node::default()], ..Arranging::default() }, Invalid::default());
        for (place, operation) in all.iter().enumerate() {
            if let Err((constraint, message)) = tree.insert(operation, place) {
                invalid.add(&format!("{} {}", operation.method, operation.path), constraint, message);
            }
            if tree.nodes.len() > Self::SEGMENTS {
                return Err(too_many("segments of paths", Self::SEGMENTS));
            }
        }
        let mut nodes = tree.nodes;
        for node in &mut nodes {
            node.literals.sort();
            // Stable, so that among equally literal ones the document's order decides.
            node.patterns.sort_by_key(|(pattern, _)| std::cmp::Reverse(pattern.literal_len()));
        }
        invalid.into_result().map(|()| Self { all, nodes })
    }

    /// The operation of a request.
    ///
    /// # Errors
    /// [`NoOperation`]: nobody may then.
    pub fn find(&self, method: &str, target: &Target<'_>) -> Result<&Operation, NoOperation> {
        let node = self.end_of(0, Some(&target.raw()[1..])).ok_or(NoOperation::Path)?;
        if let Some(decoded) = target.decoded()
            && self.end_of(0, Some(&decoded[1..])) != Some(node)
        {
            return Err(NoOperation::Ambiguous);
        }
        let of = |method: &str| self.nodes[node].methods.iter().find(|(known, _)| **known == *method);
        let found = of(method).or_else(|| if method == "HEAD" { of("GET") } else { None });
        found.map(|(_, place)| &self.all[*place]).ok_or(NoOperation::Method)
    }

    /// The node below `at` at which the rest of a path ends. Never looks at a node twice for one place in the path.
    fn end_of(&self, at: usize, rest: Option<&str>) -> Option<usize> {
        let node = &self.nodes[at];
        let Some(rest) = rest else { return (!node.methods.is_empty()).then_some(at) };
        let (segment, rest) = rest.split_once('/').map_or((rest, None), |(segment, rest)| (segment, Some(rest)));
        let literal = node.literals.binary_search_by(|(known, _)| (**known).cmp(segment)).ok().map(|place| node.literals[place].1);
        let below = literal.and_then(|child| self.end_of(child, rest));
        below.or_else(|| node.patterns.iter().filter(|(pattern, _)| pattern.fits(segment)).find_map(|(_, child)| self.end_of(*child, rest)))
    }

    /// All of them, in the document's order.
    pub fn all(&self) -> &[Operation] {
        &self.all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Need;
    use proptest::prelude::*;

    fn operations(list: &[(&str, &str)]) -> Result<Operations, Invalid> {
        let operation = |(method, path): &(&str, &str)| Operation {
            method: (*method).to_owned(),
            path: (*path).to_owned(),
            id: String::new(),
            need: Need::Unknown,
            because: String::new(),
        };
        Operations::new(list.iter().map(operation).collect())
    }

    fn found<'o>(operations: &'o Operations, method: &str, target: &str) -> Result<&'o str, NoOperation> {
        operations.find(method, &Target::parse(target).unwrap()).map(|operation| &*operation.path)
    }

    #[test]
    fn the_most_literal_path_is_meant() {
        let table = operations(&[
            ("GET", "/v1/customers"),
            ("GET", "/v1/customers/{id}"),
            ("DELETE", "/v1/customers/{id}"),
            ("GET", "/v1/customers/export"),
            ("GET", "/v1/customers/{id}/notes"),
            ("GET", "/v1/statements/{id}"),
            ("GET", "/v1/statements/{id}.pdf"),
            ("GET", "/v1/fx/{from}-{to}"),
            ("POST", "/v1/quotes/{id}/execute"),
            ("GET", "/"),
            ("GET", "/v1/slash/"),
        ])
        .unwrap();
        for (target, path) in [
            ("/v1/customers", "/v1/customers"),
            ("/v1/customers/42?x=/v1/customers", "/v1/customers/{id}"),
            ("/v1/customers/export", "/v1/customers/export"),
            ("/v1/customers/export/notes", "/v1/customers/{id}/notes"),
            ("/v1/statements/7", "/v1/statements/{id}"),
            ("/v1/statements/7.pdf", "/v1/statements/{id}.pdf"),
            ("/v1/statements/.pdf", "/v1/statements/{id}"),
            ("/v1/fx/EUR-USD", "/v1/fx/{from}-{to}"),
            ("/", "/"),
            ("/v1/slash/", "/v1/slash/"),
            ("/v1/customers/Customer%3A42", "/v1/customers/{id}"),
        ] {
            assert_eq!(found(&table, "GET", target), Ok(path), "{target}");
        }
        assert_eq!(found(&table, "POST", "/v1/quotes/9/execute"), Ok("/v1/quotes/{id}/execute"));
        assert_eq!(found(&table, "HEAD", "/v1/customers/42"), Ok("/v1/customers/{id}"));
        for target in ["/v1", "/v1/", "/v1/customers/", "/v1/customers/1/2", "/v1/fx/-USD", "/v1/fx/EUR-", "/v1/slash", "/V1/customers"] {
            assert_eq!(found(&table, "GET", target), Err(NoOperation::Path), "{target}");
        }
        for (method, target) in
            [("DELETE", "/v1/customers/export"), ("get", "/v1/customers"), ("OPTIONS", "/v1/customers"), ("HEAD", "/v1/quotes/9/execute")]
        {
            assert_eq!(found(&table, method, target), Err(NoOperation::Method), "{method} {target}");
        }
        // An upstream that decodes first finds the literal, one that does not finds the parameter.
        assert_eq!(found(&table, "GET", "/v1/customers/%65xport"), Err(NoOperation::Ambiguous));
    }

    #[test]
    fn what_cannot_be_arranged_is_refused_all_at_once() {
        let bad = operations(&[
            ("GET", "v1"),
            ("GET", "/a//b"),
            ("GET", "/a/../b"),
            ("GET", "/a/{"),
            ("GET", "/a/{}"),
            ("GET", "/a/}{"),
            ("GET", "/a/{x}{y}"),
            ("GET", "/a%20b"),
            ("GET", "/a?x=1"),
            ("GET", "/b/{x}"),
            ("GET", "/b/{y}"),
        ]);
        let fields: Vec<_> = bad.unwrap_err().problems().iter().map(|problem| problem.field.clone()).collect();
        assert_eq!(fields.len(), 10, "{fields:?}");
    }

    /// A document is whoever's that sends it: what is too much is refused at once, and what is not takes no time that matters.
    #[test]
    fn a_document_that_means_no_good_is_refused_or_arranged_in_time() {
        let too_many = |list: Vec<String>| operations(&list.iter().map(|path| ("GET", &**path)).collect::<Vec<_>>()).unwrap_err();
        let paths = |count: usize, path: &dyn Fn(usize) -> String| (0..count).map(path).collect::<Vec<_>>();
        for (list, constraint) in [
            (paths(Operations::MOST + 1, &|n| format!("/{n}")), "max_items"),
            (paths(4000, &|n| format!("/{n}{}", "/a".repeat(60))), "max_items"),
            (vec![format!("/{}", "a".repeat(Operations::LONGEST + 1))], "max_length"),
        ] {
            assert_eq!(too_many(list).problems()[0].constraint, constraint);
        }
        // Each of these, compared with each other one, would be 200 million comparisons.
        for shape in [&(|n| format!("/{n}")) as &dyn Fn(usize) -> String, &|n| format!("/{{x}}-{n}"), &|n| format!("/{n}/{{x}}")] {
            let list = paths(Operations::MOST, shape);
            let table = operations(&list.iter().map(|path| ("GET", &**path)).collect::<Vec<_>>()).unwrap();
            assert_eq!(found(&table, "GET", &list[7].replace("{x}", "y")), Ok(&*list[7]));
        }
        let methods = paths(Operations::MOST, &|n| format!("M-{n}"));
        let table = operations(&methods.iter().map(|method| (&**method, "/")).collect::<Vec<_>>()).unwrap();
        assert_eq!(found(&table, "M-19999", "/"), Ok("/"));
    }

    /// The same by the simplest means: of all paths that fit, the one whose segments are the most literal from the left.
    fn model<'t>(templates: &'t [String], target: &str) -> Option<&'t String> {
        let segments: Vec<_> = target.split('/').collect();
        let fits = |template: &&String| {
            let parts: Vec<_> = template.split('/').collect();
            parts.len() == segments.len()
                && parts.iter().zip(&segments).all(|(part, segment)| part == segment || (*part == "{x}" && !segment.is_empty()))
        };
        templates.iter().filter(fits).min_by_key(|template| template.split('/').map(|part| part == "{x}").collect::<Vec<_>>())
    }

    proptest! {
        #[test]
        fn equals_the_model(templates in proptest::collection::hash_set("(/(a|b|c|\\{x\\})){1,4}", 1..20), targets in proptest::collection::vec("(/[abcd]){1,4}", 1..20)) {
            let templates: Vec<_> = templates.into_iter().collect();
            let table = operations(&templates.iter().map(|path| ("GET", &**path)).collect::<Vec<_>>()).unwrap();
            for target in &targets {
                prop_assert_eq!(found(&table, "GET", target).ok(), model(&templates, target).map(|path| &**path));
            }
        }
    }
}
