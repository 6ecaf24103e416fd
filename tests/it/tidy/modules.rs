//! The modules of the crate, read from the sources with `syn`, and which of them name items of which others.
//!
//! Paths in `use` trees, expressions, types, patterns, attributes and macro calls are resolved as the compiler does:
//! `crate`, `self`, any number of `super`, child modules and imported names. A re-exported item belongs to the file that
//! defines it. Method calls and glob imports are not resolved; the crate has no glob imports.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;

use syn::visit::{self, Visit};
use syn::{Attribute, Item, Meta, UseTree, Visibility};

/// The segments of a path. That of a module begins at the crate's root, which is empty.
type Segments = Vec<String>;

/// Re-exports that are followed for one path. No real path comes near it; it ends a resolution that goes in a circle.
const MAX_REEXPORTS: usize = 16;

/// One file names an item of another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Arrow {
    /// Files below `src`.
    pub from: String,
    pub to: String,
    /// The item, as the file that defines it calls it.
    pub item: String,
    /// In code that only tests compile.
    pub is_test: bool,
    /// `pub use` of an item that the file does not use itself.
    pub is_reexport: bool,
}

#[derive(Default)]
struct Module {
    file: String,
    /// What `use` brings into scope, by its name there.
    imports: HashMap<String, Segments>,
    names: Vec<Name>,
}

/// A path as it is written.
struct Name {
    segments: Segments,
    is_test: bool,
    is_reexport: bool,
}

/// All arrows between the files of a crate whose root is `lib.rs` in `folder`.
pub fn arrows(folder: &Path) -> Vec<Arrow> {
    let mut modules = BTreeMap::new();
    let mut reader =
        Reader { folder, modules: &mut modules, module: Vec::new(), file: "lib.rs".to_owned(), is_test: false };
    reader.read_file();
    let tree = Tree(modules);
    let mut arrows: Vec<Arrow> = tree.0.iter().flat_map(|(path, module)| tree.arrows_from(path, module)).collect();
    arrows.sort();
    arrows.dedup();
    arrows
}

struct Tree(BTreeMap<Segments, Module>);

impl Tree {
    fn arrows_from(&self, path: &[String], module: &Module) -> Vec<Arrow> {
        let arrow = |name: &Name| {
            let (to, item) = self.resolve(self.absolute(path, &name.segments)?, MAX_REEXPORTS)?;
            let (from, to) = (module.file.clone(), self.0[&to].file.clone());
            (from != to).then_some(Arrow { from, to, item, is_test: name.is_test, is_reexport: name.is_reexport })
        };
        module.names.iter().filter_map(arrow).collect()
    }

    /// The path from the root that `segments` mean in a module. `None` for other crates, local items and primitive types.
    fn absolute(&self, module: &[String], segments: &[String]) -> Option<Segments> {
        let (first, rest) = segments.split_first()?;
        let mut path = module.to_vec();
        match first.as_str() {
            "crate" => return Some(rest.to_vec()),
            "self" => {}
            "super" => {
                path.pop();
                let supers = rest.iter().take_while(|segment| *segment == "super").count();
                path.truncate(path.len().saturating_sub(supers));
                return Some([path, rest[supers..].to_vec()].concat());
            }
            _ => {
                path.push(first.clone());
                if !self.0.contains_key(&path) {
                    let import = self.0[module].imports.get(first)?;
                    // `use name;` of another crate imports the name under itself.
                    let path = if import.first() == Some(first) { None } else { self.absolute(module, import) };
                    return Some([path?, rest.to_vec()].concat());
                }
            }
        }
        Some([path, rest.to_vec()].concat())
    }

    /// The module that defines what a path from the root means, and the item there. `None` for a module itself and for items
    /// of other crates.
    fn resolve(&self, path: Segments, reexports: usize) -> Option<(Segments, String)> {
        let mut module = Segments::new();
        for (index, segment) in path.iter().enumerate() {
            let import = self.0[&module].imports.get(segment);
            let mut child = module.clone();
            child.push(segment.clone());
            let is_last = index + 1 == path.len();
            if self.0.contains_key(&child) && !(is_last && import.is_some()) {
                module = child;
            } else if let Some(import) = import {
                let target = self.absolute(&module, import)?;
                let rest = path[index + 1..].to_vec();
                return self.resolve([target, rest].concat(), reexports.checked_sub(1)?);
            } else {
                return Some((module, segment.clone()));
            }
        }
        None
    }
}

/// Reads one module, and the modules below it.
struct Reader<'a> {
    folder: &'a Path,
    modules: &'a mut BTreeMap<Segments, Module>,
    module: Segments,
    file: String,
    is_test: bool,
}

impl Reader<'_> {
    fn read_file(&mut self) {
        let path = self.folder.join(&self.file);
        let source = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let file = syn::parse_file(&source).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        self.modules.insert(self.module.clone(), Module { file: self.file.clone(), ..Module::default() });
        self.visit_file(&file);
    }

    fn add(&mut self, segments: Segments, is_reexport: bool) {
        let name = Name { segments, is_test: self.is_test, is_reexport };
        self.modules.get_mut(&self.module).unwrap().names.push(name);
    }

    fn add_use(&mut self, prefix: &[String], tree: &UseTree, is_reexport: bool) {
        let joined = |name: &syn::Ident| [prefix, &[name.to_string()]].concat();
        let (path, name) = match tree {
            UseTree::Path(path) => return self.add_use(&joined(&path.ident), &path.tree, is_reexport),
            UseTree::Group(group) => {
                return group.items.iter().for_each(|tree| self.add_use(prefix, tree, is_reexport));
            }
            UseTree::Glob(_) => panic!("src/{} has a glob import", self.file),
            UseTree::Name(name) => (joined(&name.ident), name.ident.to_string()),
            UseTree::Rename(rename) => (joined(&rename.ident), rename.rename.to_string()),
        };
        let (path, name) = match path.split_last() {
            Some((last, prefix)) if last == "self" => (prefix.to_vec(), prefix.last().cloned().unwrap_or(name)),
            _ => (path, name),
        };
        self.modules.get_mut(&self.module).unwrap().imports.insert(name, path.clone());
        self.add(path, is_reexport);
    }

    /// Macro calls and attributes are not parsed: every word in their text may be a path.
    fn add_tokens(&mut self, tokens: &str) {
        let text = tokens.replace(" :: ", "::").replace(":: ", "::").replace(" ::", "::");
        for word in text.split(|c: char| !c.is_alphanumeric() && c != '_' && c != ':') {
            let segments: Segments = word.trim_matches(':').split("::").map(str::to_owned).collect();
            self.add(segments, false);
        }
    }

    /// Reads what `visit` visits as code of tests if the attributes say so.
    fn with_attributes(&mut self, attributes: &[Attribute], visit: impl FnOnce(&mut Self)) {
        let before = self.is_test;
        self.is_test |= attributes.iter().any(is_cfg_test);
        visit(self);
        self.is_test = before;
    }
}

fn is_cfg_test(attribute: &Attribute) -> bool {
    let Meta::List(list) = &attribute.meta else { return false };
    let condition = list.tokens.to_string();
    list.path.is_ident("cfg") && condition.contains("test") && !condition.contains("not")
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        let attributes: &[Attribute] = match item {
            Item::Const(item) => &item.attrs,
            Item::Enum(item) => &item.attrs,
            Item::Fn(item) => &item.attrs,
            Item::Impl(item) => &item.attrs,
            Item::Macro(item) => &item.attrs,
            Item::Mod(item) => &item.attrs,
            Item::Static(item) => &item.attrs,
            Item::Struct(item) => &item.attrs,
            Item::Trait(item) => &item.attrs,
            Item::Type(item) => &item.attrs,
            Item::Use(item) => &item.attrs,
            _ => &[],
        };
        self.with_attributes(attributes, |reader| visit::visit_item(reader, item));
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        self.with_attributes(&function.attrs, |reader| visit::visit_impl_item_fn(reader, function));
    }

    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        // A file of the tests' harness uses nothing of the source.
        if module.attrs.iter().any(|attribute| attribute.path().is_ident("path")) {
            return;
        }
        let path = [&*self.module, &[module.ident.to_string()]].concat();
        let is_file = module.content.is_none();
        let file = if is_file { format!("{}.rs", path.join("/")) } else { self.file.clone() };
        let mut reader =
            Reader { folder: self.folder, modules: self.modules, module: path, file, is_test: self.is_test };
        match &module.content {
            None => reader.read_file(),
            Some((_, items)) => {
                let module = Module { file: reader.file.clone(), ..Module::default() };
                reader.modules.insert(reader.module.clone(), module);
                items.iter().for_each(|item| reader.visit_item(item));
            }
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        if item.leading_colon.is_none() {
            self.add_use(&[], &item.tree, !matches!(item.vis, Visibility::Inherited));
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.leading_colon.is_none() {
            self.add(path.segments.iter().map(|segment| segment.ident.to_string()).collect(), false);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.add_tokens(&call.tokens.to_string());
        visit::visit_macro(self, call);
    }

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        if let Meta::List(list) = &attribute.meta {
            self.add_tokens(&list.tokens.to_string());
        }
    }
}

#[test]
fn arrows_lead_to_the_file_that_defines_an_item() {
    let folder = tempfile::tempdir().unwrap();
    for (file, source) in [
        ("lib.rs", "mod a; mod b;"),
        ("a.rs", "mod c; mod d; pub use c::C; pub struct A; #[cfg(test)] fn f(_: crate::b::B) {}"),
        ("a/c.rs", "mod e; pub struct C;"),
        ("a/c/e.rs", "use super::super::{A, C}; fn f() -> A { vec![super::super::d::D::new()]; }"),
        ("a/d.rs", "use std::fmt::Debug; use crate::b; pub struct D(b::B);"),
        ("b.rs", "pub struct B; fn f(_: &crate::a::C) {}"),
    ] {
        let path = folder.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, source).unwrap();
    }
    let mut found = arrows(folder.path());
    let tests: Vec<Arrow> = found.extract_if(.., |arrow| arrow.is_test).collect();
    let reexports: Vec<Arrow> = found.extract_if(.., |arrow| arrow.is_reexport).collect();
    let shown = |arrows: &[Arrow]| -> Vec<String> {
        arrows.iter().map(|arrow| format!("{} {} {}", arrow.from, arrow.to, arrow.item)).collect()
    };
    assert_eq!(shown(&tests), ["a.rs b.rs B"]);
    assert_eq!(shown(&reexports), ["a.rs a/c.rs C"]);
    assert_eq!(
        shown(&found),
        ["a/c/e.rs a.rs A", "a/c/e.rs a/c.rs C", "a/c/e.rs a/d.rs D", "a/d.rs b.rs B", "b.rs a/c.rs C"]
    );
}
