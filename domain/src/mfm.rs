//! MFM, the markup of notes: text into a tree of nodes, as `mfm-js` reads it.
//!
//! Whatever the text, it takes time linear in its length: what begins at a place, at a depth, is found out once
//! ([`Parser::step`]), and where a run of such things ends is remembered for all places of the run
//! ([`Parser::walk`]). The tree is built afterwards, along what was found. Nothing is nested deeper than
//! [`MAX_NESTING`], and any text is some tree.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

/// How deep nodes are nested; what is deeper is text.
pub const MAX_NESTING: usize = 20;
/// The longest text that is read, in bytes; a longer one is one text node.
pub const MAX_BYTES: usize = 256 * 1024;
/// The longest Unicode emoji, in characters.
const MAX_EMOJI_CHARS: usize = 12;

/// A part of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    Text(String),
    Bold(Vec<Node>),
    Italic(Vec<Node>),
    Small(Vec<Node>),
    Strike(Vec<Node>),
    Center(Vec<Node>),
    Quote(Vec<Node>),
    InlineCode(String),
    CodeBlock {
        code: String,
        lang: Option<String>,
    },
    MathInline(String),
    MathBlock(String),
    EmojiCode(String),
    UnicodeEmoji(String),
    Mention {
        username: String,
        host: Option<String>,
    },
    Hashtag(String),
    Url {
        url: String,
        brackets: bool,
    },
    Link {
        silent: bool,
        url: String,
        children: Vec<Node>,
    },
    /// `$[name.key=value,flag …]`
    Fn {
        name: String,
        args: Vec<(String, Option<String>)>,
        children: Vec<Node>,
    },
    Plain(String),
    Search {
        query: String,
        content: String,
    },
}

impl Node {
    /// The nodes inside.
    pub fn children(&self) -> &[Node] {
        match self {
            Node::Bold(children)
            | Node::Italic(children)
            | Node::Small(children)
            | Node::Strike(children)
            | Node::Center(children)
            | Node::Quote(children)
            | Node::Link { children, .. }
            | Node::Fn { children, .. } => children,
            _ => &[],
        }
    }
}

/// Reads a text.
pub fn parse(text: &str) -> Vec<Node> {
    if text.len() > MAX_BYTES {
        return vec![Node::Text(text.to_owned())];
    }
    Parser::new(text).full(0)
}

/// Reads a name, in which there are only emoji and plain text.
pub fn parse_simple(text: &str) -> Vec<Node> {
    if text.len() > MAX_BYTES {
        return vec![Node::Text(text.to_owned())];
    }
    let mut parser = Parser::new(text);
    let (mut nodes, mut at) = (Nodes::default(), 0);
    while at < text.len() {
        let step = parser
            .unicode_emoji(at)
            .or_else(|| parser.emoji_code(at))
            .or_else(|| parser.plain(at))
            .unwrap_or_else(|| parser.one(at));
        parser.build(&mut nodes, at, step, 0, false);
        at = step.end;
    }
    nodes.0
}

/// What begins at a place, and where it ends.
#[derive(Debug, Clone, Copy)]
struct Step {
    end: usize,
    what: What,
}

/// What a step is; ranges are those of what is inside.
#[derive(Debug, Clone, Copy)]
enum What {
    Text,
    Bold(usize, usize),
    /// Without anything but letters and spaces inside.
    PlainBold(usize, usize),
    PlainItalic(usize, usize),
    Italic(usize, usize),
    Small(usize, usize),
    Strike(usize, usize),
    Center(usize, usize),
    Tada(usize, usize),
    Quote,
    InlineCode(usize, usize),
    CodeBlock {
        lang: (usize, usize),
        code: (usize, usize),
    },
    MathInline(usize, usize),
    MathBlock(usize, usize),
    EmojiCode(usize, usize),
    UnicodeEmoji,
    Mention {
        name: (usize, usize),
        host: Option<(usize, usize)>,
    },
    Hashtag(usize, usize),
    Url {
        url: (usize, usize),
        brackets: bool,
    },
    Link {
        silent: bool,
        label: (usize, usize),
        url: (usize, usize),
    },
    Fn {
        name: (usize, usize),
        args: Option<(usize, usize)>,
        inside: (usize, usize),
    },
    Plain(usize, usize),
    Search {
        query: (usize, usize),
        content: (usize, usize),
    },
}

/// How a tag opens and closes, and what is between.
type Tag = (&'static str, &'static str, fn(usize, usize) -> What);

/// Where a run of nodes stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Stop {
    /// Before this text.
    At(&'static str),
    /// Before this text, or a new line.
    AtOrLine(&'static str),
    /// Before `</center>`, or a new line before it.
    Center,
}

/// Nodes with texts beside each other made one.
#[derive(Default)]
struct Nodes(Vec<Node>);

impl Nodes {
    fn push(&mut self, node: Node) {
        match (self.0.last_mut(), node) {
            (Some(Node::Text(before)), Node::Text(text)) => before.push_str(&text),
            (_, node) => self.0.push(node),
        }
    }

    fn text(&mut self, text: &str) {
        match self.0.last_mut() {
            Some(Node::Text(before)) => before.push_str(text),
            _ => self.0.push(Node::Text(text.to_owned())),
        }
    }
}

/// Where a text stands next, remembered from the last time it was looked for.
#[derive(Default)]
struct Finder {
    from: usize,
    at: Option<usize>,
    asked: bool,
}

impl Finder {
    /// Whether what was found is also the next behind this place.
    fn knows(&self, at: usize) -> bool {
        self.asked && self.from <= at && self.at.is_none_or(|found| found >= at)
    }
}

struct Parser<'t> {
    text: &'t str,
    /// By place, depth, and whether it is in the label of a link.
    steps: HashMap<(usize, usize, bool), Step>,
    ends: HashMap<(Stop, usize, usize, bool), usize>,
    finders: HashMap<&'static str, Finder>,
    code_end: Finder,
}

impl<'t> Parser<'t> {
    fn new(text: &'t str) -> Self {
        Self {
            text,
            steps: HashMap::new(),
            ends: HashMap::new(),
            finders: HashMap::new(),
            code_end: Finder::default(),
        }
    }

    fn rest(&self, at: usize) -> &'t str {
        self.text.get(at..).unwrap_or_default()
    }

    fn has(&self, at: usize, mark: &str) -> bool {
        self.rest(at).starts_with(mark)
    }

    fn char_at(&self, at: usize) -> Option<char> {
        self.rest(at).chars().next()
    }

    /// One character, as text.
    fn one(&self, at: usize) -> Step {
        let len = self.char_at(at).map_or(1, char::len_utf8);
        Step { end: at + len, what: What::Text }
    }

    /// Where the line break ends that is here.
    fn newline(&self, at: usize) -> Option<usize> {
        match self.text.as_bytes().get(at)? {
            b'\r' if self.text.as_bytes().get(at + 1) == Some(&b'\n') => Some(at + 2),
            b'\r' | b'\n' => Some(at + 1),
            _ => None,
        }
    }

    fn skip_newline(&self, at: usize) -> usize {
        self.newline(at).unwrap_or(at)
    }

    fn begins_line(&self, at: usize) -> bool {
        at == 0 || matches!(self.text.as_bytes().get(at - 1), Some(b'\r' | b'\n'))
    }

    fn ends_line(&self, at: usize) -> bool {
        matches!(self.text.as_bytes().get(at), None | Some(b'\r' | b'\n'))
    }

    /// Whether a letter or digit is right before.
    fn follows_word(&self, at: usize) -> bool {
        at > 0 && self.text.as_bytes().get(at - 1).is_some_and(u8::is_ascii_alphanumeric)
    }

    /// Where the run ends of bytes that all fit.
    fn run(&self, at: usize, fits: impl Fn(u8) -> bool) -> usize {
        let bytes = self.text.as_bytes().get(at..).unwrap_or_default();
        at + bytes.iter().take_while(|byte| fits(**byte)).count()
    }

    fn line_end(&mut self, at: usize) -> usize {
        let (cr, lf) = (self.find("\r", at), self.find("\n", at));
        cr.into_iter().chain(lf).min().unwrap_or(self.text.len())
    }

    /// The next place of a text. Each byte is looked at once, as long as it is asked forwards.
    fn find(&mut self, what: &'static str, at: usize) -> Option<usize> {
        let text = self.text;
        let finder = self.finders.entry(what).or_default();
        if !finder.knows(at) {
            let found = text.get(at..).and_then(|rest| rest.find(what)).map(|found| at + found);
            *finder = Finder { from: at, at: found, asked: true };
        }
        finder.at
    }

    /// The whole text, at a depth.
    fn full(&mut self, depth: usize) -> Vec<Node> {
        let (mut nodes, mut at) = (Nodes::default(), 0);
        while at < self.text.len() {
            let step = self.block(at, depth);
            self.build(&mut nodes, at, step, depth, false);
            at = step.end;
        }
        nodes.0
    }

    /// What begins here outside of everything: blocks, too.
    fn block(&mut self, at: usize, depth: usize) -> Step {
        let may_begin = self.begins_line(at) || self.newline(at).is_some();
        if !may_begin {
            return self.inline(at, depth, false);
        }
        // The order is that of `mfm-js`; what has another first character doesn't matter.
        if let Some(step) = self.unicode_emoji(at).or_else(|| self.center(at, depth)) {
            return step;
        }
        if let Some(step) = self.code_block(at).or_else(|| self.quote(at)).or_else(|| self.math_block(at)) {
            return step;
        }
        if self.has(at, "\u{fe0f}") {
            return self.one(at);
        }
        let inline = self.inline(at, depth, false);
        match inline.what {
            What::Text if inline.end == self.one(at).end => self.search(at).unwrap_or(inline),
            _ => inline,
        }
    }

    /// What begins here, one level deeper than before; too deep it is one character.
    fn step(&mut self, at: usize, depth: usize, label: bool) -> Step {
        if depth >= MAX_NESTING {
            return self.one(at);
        }
        if let Some(known) = self.steps.get(&(at, depth, label)) {
            return *known;
        }
        let step = self.inline(at, depth, label);
        self.steps.insert((at, depth, label), step);
        step
    }

    fn inline(&mut self, at: usize, depth: usize, label: bool) -> Step {
        let step = match self.text.as_bytes().get(at) {
            Some(b'<') => self.tag(at, depth, label),
            Some(b'*') => self.unicode_emoji(at).or_else(|| self.stars(at, depth, label)),
            Some(b'_') => self.underscores(at),
            Some(b'`') => self.inline_code(at),
            Some(b'\\') => self.math_inline(at),
            Some(b'~') => self.waves(at, depth, label),
            Some(b'$') => self.function(at, depth, label),
            Some(b'@') if !label => self.mention(at),
            Some(b'#') => {
                self.unicode_emoji(at).or_else(|| if label { None } else { self.hashtag(at, depth) })
            }
            Some(b':') => self.emoji_code(at),
            Some(b'[' | b'?') if !label => self.link(at, depth),
            Some(b'h') if !label => self.url(at, depth),
            Some(b'0'..=b'9') => self.unicode_emoji(at),
            Some(byte) if !byte.is_ascii() => self.unicode_emoji(at),
            _ => None,
        };
        step.unwrap_or_else(|| self.one(at))
    }

    fn stops(&self, stop: Stop, at: usize) -> bool {
        match stop {
            Stop::At(mark) => self.has(at, mark),
            Stop::AtOrLine(mark) => self.has(at, mark) || self.newline(at).is_some(),
            Stop::Center => self.has(self.skip_newline(at), CENTER_CLOSE),
        }
    }

    /// Where a run that begins here stops.
    fn walk(&mut self, stop: Stop, from: usize, depth: usize, label: bool) -> usize {
        let (mut at, mut passed) = (from, Vec::new());
        let end = loop {
            if let Some(known) = self.ends.get(&(stop, at, depth, label)) {
                break *known;
            }
            passed.push(at);
            if at >= self.text.len() || self.stops(stop, at) {
                break at;
            }
            at = self.step(at, depth, label).end;
        };
        for at in passed {
            self.ends.insert((stop, at, depth, label), end);
        }
        end
    }

    /// Something between two marks. Without the second mark all of it is text.
    fn between(
        &mut self,
        at: usize,
        open: &str,
        (stop, close): (Stop, &str),
        (depth, label): (usize, bool),
        what: fn(usize, usize) -> What,
    ) -> Option<Step> {
        if !self.has(at, open) {
            return None;
        }
        let from = at + open.len();
        let to = self.walk(stop, from, depth + 1, label);
        if to > from && self.has(to, close) {
            return Some(Step { end: to + close.len(), what: what(from, to) });
        }
        Some(Step { end: to, what: What::Text })
    }

    fn tag(&mut self, at: usize, depth: usize, label: bool) -> Option<Step> {
        const TAGS: [Tag; 4] = [
            ("<small>", "</small>", What::Small),
            ("<b>", "</b>", What::Bold),
            ("<i>", "</i>", What::Italic),
            ("<s>", "</s>", What::Strike),
        ];
        if let Some(plain) = self.plain(at) {
            return Some(plain);
        }
        for (open, close, what) in TAGS {
            if let Some(step) = self.between(at, open, (Stop::At(close), close), (depth, label), what) {
                return Some(step);
            }
        }
        if label { None } else { self.url_in_brackets(at) }
    }

    fn stars(&mut self, at: usize, depth: usize, label: bool) -> Option<Step> {
        if let Some(step) = self.between(at, "***", (Stop::At("***"), "***"), (depth, label), What::Tada) {
            return Some(step);
        }
        if let Some(step) = self.between(at, "**", (Stop::At("**"), "**"), (depth, label), What::Bold) {
            return Some(step);
        }
        self.letters(at, "*", What::PlainItalic).filter(|_| !self.follows_word(at))
    }

    fn underscores(&mut self, at: usize) -> Option<Step> {
        if let Some(step) = self.letters(at, "__", What::PlainBold) {
            return Some(step);
        }
        self.letters(at, "_", What::PlainItalic).filter(|_| !self.follows_word(at))
    }

    /// Letters, digits and spaces between two marks.
    fn letters(&self, at: usize, mark: &str, what: fn(usize, usize) -> What) -> Option<Step> {
        if !self.has(at, mark) {
            return None;
        }
        let from = at + mark.len();
        let fits = |c: char| c.is_ascii_alphanumeric() || is_space(c);
        let len = self.rest(from).find(|c: char| !fits(c))?;
        let to = from + len;
        (len > 0 && self.has(to, mark)).then_some(Step { end: to + mark.len(), what: what(from, to) })
    }

    fn waves(&mut self, at: usize, depth: usize, label: bool) -> Option<Step> {
        self.between(at, "~~", (Stop::AtOrLine("~~"), "~~"), (depth, label), What::Strike)
    }

    fn inline_code(&self, at: usize) -> Option<Step> {
        let from = at + 1;
        let len = self.rest(from).find(['`', '´', '\r', '\n'])?;
        let to = from + len;
        (len > 0 && self.has(to, "`")).then_some(Step { end: to + 1, what: What::InlineCode(from, to) })
    }

    fn math_inline(&mut self, at: usize) -> Option<Step> {
        if !self.has(at, "\\(") {
            return None;
        }
        let from = at + 2;
        let to = self.find("\\)", from)?;
        let fits = to > from && self.line_end(from) >= to;
        fits.then_some(Step { end: to + 2, what: What::MathInline(from, to) })
    }

    fn plain(&mut self, at: usize) -> Option<Step> {
        const CLOSE: &str = "</plain>";
        if !self.has(at, "<plain>") {
            return None;
        }
        let from = self.skip_newline(at + "<plain>".len());
        let close = self.find(CLOSE, from)?;
        let to = self.before_newline(from, close);
        (to > from).then_some(Step { end: close + CLOSE.len(), what: What::Plain(from, to) })
    }

    /// The place before the line break that ends here, if one does and it isn't before `from`.
    fn before_newline(&self, from: usize, at: usize) -> usize {
        let inside = self.text.get(from..at).unwrap_or_default();
        let cut = inside.strip_suffix("\r\n").or_else(|| inside.strip_suffix(['\r', '\n']));
        from + cut.unwrap_or(inside).len()
    }

    fn function(&mut self, at: usize, depth: usize, label: bool) -> Option<Step> {
        if !self.has(at, "$[") {
            return None;
        }
        let text = |end: usize| Some(Step { end, what: What::Text });
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let name = (at + 2, self.run(at + 2, is_name));
        if name.1 == name.0 {
            return text(name.0);
        }
        let args = self.args(name.1);
        let after = args.map_or(name.1, |(_, end)| end);
        if !self.has(after, " ") {
            return text(after);
        }
        let from = after + 1;
        let to = self.walk(Stop::At("]"), from, depth + 1, label);
        if to == from || !self.has(to, "]") {
            return text(to);
        }
        Some(Step { end: to + 1, what: What::Fn { name, args, inside: (from, to) } })
    }

    /// `.key=value,flag`
    fn args(&self, at: usize) -> Option<(usize, usize)> {
        if !self.has(at, ".") {
            return None;
        }
        let mut end = self.arg(at + 1)?;
        while self.has(end, ",")
            && let Some(next) = self.arg(end + 1)
        {
            end = next;
        }
        Some((at + 1, end))
    }

    fn arg(&self, at: usize) -> Option<usize> {
        let key = self.run(at, |byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if key == at {
            return None;
        }
        if !self.has(key, "=") {
            return Some(key);
        }
        let value = self.run(key + 1, |byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
        Some(if value > key + 1 { value } else { key })
    }

    fn mention(&self, at: usize) -> Option<Step> {
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
        let name = (at + 1, self.run(at + 1, is_name));
        if name.1 == name.0 || self.follows_word(at) {
            return None;
        }
        let host = if self.has(name.1, "@") {
            let host = (name.1 + 1, self.run(name.1 + 1, is_name));
            (host.1 > host.0).then_some(host)
        } else {
            None
        };
        let all = host.map_or(name.1, |host| host.1);
        let trimmed = |(from, to): (usize, usize)| {
            let inside = self.text.get(from..to).unwrap_or_default();
            (from, from + inside.trim_end_matches(['.', '-']).len())
        };
        let begins_well =
            |(from, _): (usize, usize)| !matches!(self.text.as_bytes().get(from), Some(b'.' | b'-'));
        let (short_name, short_host) = (trimmed(name), host.map(trimmed));
        let host_is_there = short_host.is_some_and(|(from, to)| to > from);
        let is_good = short_name.1 > short_name.0
            && begins_well(short_name)
            && (short_host.is_none() || host_is_there)
            && short_host.is_none_or(begins_well)
            && (short_host.is_none() || short_name == name);
        if !is_good {
            return Some(Step { end: all, what: What::Text });
        }
        let end = short_host.map_or(short_name.1, |(_, to)| to);
        Some(Step { end, what: What::Mention { name: short_name, host: short_host } })
    }

    fn hashtag(&self, at: usize, depth: usize) -> Option<Step> {
        let (from, to) = (at + 1, self.items(at + 1, depth, HASHTAG_BRACKETS, is_hashtag_char));
        let is_number = self.text.as_bytes().get(from..to)?.iter().all(u8::is_ascii_digit);
        let is_tag = to > from && !is_number && !self.follows_word(at);
        is_tag.then_some(Step { end: to, what: What::Hashtag(from, to) })
    }

    /// Where a run ends of characters that fit and of such in pairs of brackets.
    fn items(&self, from: usize, depth: usize, brackets: &[(char, char)], fits: fn(char) -> bool) -> usize {
        let mut at = from;
        while let Some(here) = self.char_at(at) {
            if fits(here) {
                at += here.len_utf8();
                continue;
            }
            let close = brackets.iter().find(|(open, _)| *open == here).map(|(_, close)| *close);
            let Some(close) = close.filter(|_| depth < MAX_NESTING) else { break };
            let to = self.items(at + here.len_utf8(), depth + 1, brackets, fits);
            if self.char_at(to) != Some(close) {
                break;
            }
            at = to + close.len_utf8();
        }
        at
    }

    fn emoji_code(&self, at: usize) -> Option<Step> {
        if !self.has(at, ":") {
            return None;
        }
        let from = at + 1;
        let to = self.run(from, |byte| byte.is_ascii_alphanumeric() || b"_+-".contains(&byte));
        let after = to + 1;
        let is_word = |byte: &u8| byte.is_ascii_alphanumeric();
        let is_code = to > from && self.has(to, ":") && !self.text.as_bytes().get(after).is_some_and(is_word);
        is_code.then_some(Step { end: after, what: What::EmojiCode(from, to) })
    }

    fn unicode_emoji(&self, at: usize) -> Option<Step> {
        let first = self.char_at(at)?;
        if !EMOJI_BEGINNINGS.contains(&first) {
            return None;
        }
        let ends = self.rest(at).char_indices().take(MAX_EMOJI_CHARS).map(|(i, c)| at + i + c.len_utf8());
        let ends: Vec<usize> = ends.collect();
        let is_emoji = |end: &usize| self.text.get(at..*end).is_some_and(is_emoji);
        let end = ends.into_iter().rev().find(is_emoji)?;
        Some(Step { end, what: What::UnicodeEmoji })
    }

    fn link(&mut self, at: usize, depth: usize) -> Option<Step> {
        let silent = self.has(at, "?[");
        if !silent && !self.has(at, "[") {
            return None;
        }
        let from = at + if silent { 2 } else { 1 };
        let to = self.walk(Stop::AtOrLine("]"), from, depth + 1, true);
        if to == from || !self.has(to, "](") {
            return None;
        }
        let place = to + 2;
        let step = self.url_in_brackets(place).or_else(|| self.url(place, depth))?;
        let What::Url { url, .. } = step.what else { return None };
        let what = What::Link { silent, label: (from, to), url };
        self.has(step.end, ")").then_some(Step { end: step.end + 1, what })
    }

    fn scheme(&self, at: usize) -> Option<usize> {
        ["https://", "http://"]
            .into_iter()
            .find(|scheme| self.has(at, scheme))
            .map(|scheme| at + scheme.len())
    }

    fn url(&self, at: usize, depth: usize) -> Option<Step> {
        let from = self.scheme(at)?;
        let to = self.items(from, depth, URL_BRACKETS, is_url_char);
        let inside = self.text.get(from..to)?;
        let end = from + inside.trim_end_matches(['.', ',']).len();
        match (to > from, end > from) {
            (false, _) => None,
            (true, false) => Some(Step { end: to, what: What::Text }),
            (true, true) => Some(Step { end, what: What::Url { url: (at, end), brackets: false } }),
        }
    }

    fn url_in_brackets(&mut self, at: usize) -> Option<Step> {
        if !self.has(at, "<") {
            return None;
        }
        let from = self.scheme(at + 1)?;
        let stops = [">", " ", "\u{3000}", "\t"].map(|stop| self.find(stop, from));
        let to = stops.into_iter().flatten().min()?;
        let what = What::Url { url: (at + 1, to), brackets: true };
        (to > from && self.has(to, ">")).then_some(Step { end: to + 1, what })
    }

    fn center(&mut self, at: usize, depth: usize) -> Option<Step> {
        let open = self.line_with(at, CENTER_OPEN)?;
        let from = self.skip_newline(open);
        // Nobody walks to the end for nothing.
        self.find(CENTER_CLOSE, from)?;
        let to = self.walk(Stop::Center, from, depth + 1, false);
        let close = self.skip_newline(to);
        if to == from || !self.has(close, CENTER_CLOSE) {
            return None;
        }
        let end = self.block_end(close + CENTER_CLOSE.len())?;
        Some(Step { end, what: What::Center(from, to) })
    }

    /// Behind a mark at the beginning of a line, perhaps after a line break.
    fn line_with(&self, at: usize, mark: &str) -> Option<usize> {
        let begin = self.skip_newline(at);
        (self.begins_line(begin) && self.has(begin, mark)).then_some(begin + mark.len())
    }

    /// Behind the line break after a block, which ends its line.
    fn block_end(&self, at: usize) -> Option<usize> {
        self.ends_line(at).then(|| self.skip_newline(at))
    }

    fn code_block(&mut self, at: usize) -> Option<Step> {
        const MARK: &str = "```";
        let lang = self.line_with(at, MARK)?;
        let lang = (lang, self.line_end(lang));
        let from = self.newline(lang.1)?;
        let (to, close) = self.code_end(from)?;
        let end = self.block_end(close + MARK.len())?;
        (to > from).then_some(Step { end, what: What::CodeBlock { lang, code: (from, to) } })
    }

    /// The first line break before a line of only three backticks, and where those are.
    fn code_end(&mut self, from: usize) -> Option<(usize, usize)> {
        let found = if self.code_end.knows(from) { self.code_end.at } else { self.find_code_end(from) };
        self.code_end = Finder { from, at: found, asked: true };
        let (found, bytes) = (found?, self.text.as_bytes());
        let is_pair = found > from && bytes.get(found - 1..=found) == Some(b"\r\n");
        Some((if is_pair { found - 1 } else { found }, found + 1))
    }

    fn find_code_end(&mut self, from: usize) -> Option<usize> {
        let mut at = from;
        loop {
            let (lf, cr) = (self.find("\n```", at), self.find("\r```", at));
            let found = lf.into_iter().chain(cr).min()?;
            if self.ends_line(found + 4) {
                return Some(found);
            }
            at = found + 1;
        }
    }

    fn math_block(&mut self, at: usize) -> Option<Step> {
        const CLOSE: &str = "\\]";
        let open = self.line_with(at, "\\[")?;
        let from = self.skip_newline(open);
        let close = self.find(CLOSE, from)?;
        let to = self.before_newline(from, close);
        let end = self.block_end(close + CLOSE.len())?;
        (to > from).then_some(Step { end, what: What::MathBlock(from, to) })
    }

    fn quote(&mut self, at: usize) -> Option<Step> {
        let begin = self.skip_newline(self.skip_newline(at));
        if !self.begins_line(begin) || !self.has(begin, ">") {
            return None;
        }
        let (mut end, mut lines, mut is_empty) = (self.line_end(begin), 1, self.quoted(begin).is_empty());
        while let Some(next) = self.newline(end).filter(|next| self.has(*next, ">")) {
            is_empty &= self.quoted(next).is_empty();
            lines += 1;
            end = self.line_end(next);
        }
        if lines == 1 && is_empty {
            return None;
        }
        let end = self.skip_newline(self.skip_newline(end));
        Some(Step { end, what: What::Quote })
    }

    /// What a line that is quoted says.
    fn quoted(&mut self, begin: usize) -> &'t str {
        let end = self.line_end(begin);
        let line = self.text.get(begin + 1..end).unwrap_or_default();
        line.strip_prefix(is_space).unwrap_or(line)
    }

    fn search(&mut self, at: usize) -> Option<Step> {
        let from = self.skip_newline(at);
        if !self.begins_line(from) {
            return None;
        }
        let end = self.line_end(from);
        let line = self.text.get(from..end)?;
        // The first of them wins, as what is before it is looked at from the left.
        let button = ["[検索]", "[search]", "検索", "search"].into_iter().find_map(|button| {
            let at = line.len().checked_sub(button.len())?;
            line.get(at..).filter(|tail| tail.eq_ignore_ascii_case(button)).map(|_| at)
        })?;
        let query = line.get(..button)?.strip_suffix(is_space)?;
        if query.is_empty() {
            return None;
        }
        let what = What::Search { query: (from, from + query.len()), content: (from, end) };
        Some(Step { end: self.skip_newline(end), what })
    }

    /// Makes the node of a step.
    fn build(&mut self, nodes: &mut Nodes, at: usize, step: Step, depth: usize, label: bool) {
        let text = self.text;
        let cut = |(from, to): (usize, usize)| text.get(from..to).unwrap_or_default().to_owned();
        let letters = |from, to| vec![Node::Text(cut((from, to)))];
        let node = match step.what {
            What::Text => return nodes.text(text.get(at..step.end).unwrap_or_default()),
            What::Bold(from, to) => Node::Bold(self.children(from, to, depth, label)),
            What::Italic(from, to) => Node::Italic(self.children(from, to, depth, label)),
            What::Small(from, to) => Node::Small(self.children(from, to, depth, label)),
            What::Strike(from, to) => Node::Strike(self.children(from, to, depth, label)),
            What::Center(from, to) => Node::Center(self.children(from, to, depth, label)),
            What::Tada(from, to) => {
                let children = self.children(from, to, depth, label);
                Node::Fn { name: "tada".to_owned(), args: Vec::new(), children }
            }
            What::PlainBold(from, to) => Node::Bold(letters(from, to)),
            What::PlainItalic(from, to) => Node::Italic(letters(from, to)),
            What::Quote => Node::Quote(self.quoted_nodes(at, depth)),
            What::InlineCode(from, to) => Node::InlineCode(cut((from, to))),
            What::CodeBlock { lang, code } => {
                let lang = cut(lang).trim().to_owned();
                Node::CodeBlock { code: cut(code), lang: (!lang.is_empty()).then_some(lang) }
            }
            What::MathInline(from, to) => Node::MathInline(cut((from, to))),
            What::MathBlock(from, to) => Node::MathBlock(cut((from, to))),
            What::EmojiCode(from, to) => Node::EmojiCode(cut((from, to))),
            What::UnicodeEmoji => Node::UnicodeEmoji(cut((at, step.end))),
            What::Mention { name, host } => Node::Mention { username: cut(name), host: host.map(cut) },
            What::Hashtag(from, to) => Node::Hashtag(cut((from, to))),
            What::Url { url, brackets } => Node::Url { url: cut(url), brackets },
            What::Link { silent, label: (from, to), url } => {
                Node::Link { silent, url: cut(url), children: self.children(from, to, depth, true) }
            }
            What::Fn { name, args, inside: (from, to) } => {
                let children = self.children(from, to, depth, label);
                Node::Fn {
                    name: cut(name),
                    args: args.map_or_else(Vec::new, |args| pairs(&cut(args))),
                    children,
                }
            }
            What::Plain(from, to) => Node::Plain(cut((from, to))),
            What::Search { query, content } => Node::Search { query: cut(query), content: cut(content) },
        };
        nodes.push(node);
    }

    fn children(&mut self, from: usize, to: usize, depth: usize, label: bool) -> Vec<Node> {
        let (mut nodes, mut at) = (Nodes::default(), from);
        while at < to {
            let step = self.step(at, depth + 1, label);
            self.build(&mut nodes, at, step, depth + 1, label);
            at = step.end;
        }
        nodes.0
    }

    /// What is quoted is a text of its own.
    fn quoted_nodes(&mut self, at: usize, depth: usize) -> Vec<Node> {
        let mut begin = self.skip_newline(self.skip_newline(at));
        let mut lines = vec![self.quoted(begin)];
        loop {
            let end = self.line_end(begin);
            match self.newline(end).filter(|next| self.has(*next, ">")) {
                Some(next) => begin = next,
                None => break,
            }
            lines.push(self.quoted(begin));
        }
        let text = lines.join("\n");
        match depth + 1 < MAX_NESTING {
            true => Parser::new(&text).full(depth + 1),
            false => vec![Node::Text(text)],
        }
    }
}

const CENTER_OPEN: &str = "<center>";
const CENTER_CLOSE: &str = "</center>";
const URL_BRACKETS: &[(char, char)] = &[('(', ')'), ('[', ']')];
const HASHTAG_BRACKETS: &[(char, char)] = &[('(', ')'), ('[', ']'), ('「', '」'), ('（', '）')];

/// The characters with which an emoji may begin.
static EMOJI_BEGINNINGS: LazyLock<HashSet<char>> =
    LazyLock::new(|| emojis::iter().filter_map(|emoji| emoji.as_str().chars().next()).collect());

/// Whether this is one emoji as it is written: a digit with nothing but a variation selector is a digit, and
/// what needs no selector has none.
fn is_emoji(text: &str) -> bool {
    let is_keycap = || text.ends_with('\u{20e3}');
    let fits = |emoji: &emojis::Emoji| !text.ends_with('\u{fe0f}') || emoji.as_str().ends_with('\u{fe0f}');
    emojis::get(text).is_some_and(fits) && (is_keycap() || !text.starts_with(|c: char| c.is_ascii()))
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\u{3000}' | '\t')
}

fn is_hashtag_char(c: char) -> bool {
    !is_space(c) && !"\r\n.,!?'\"#:/[]【】()「」（）<>".contains(c)
}

fn is_url_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || ".,_/:%#@$&?!~=+-".contains(c)
}

/// The arguments of a function; the last of a name counts.
fn pairs(args: &str) -> Vec<(String, Option<String>)> {
    let mut pairs: Vec<(String, Option<String>)> = Vec::new();
    for arg in args.split(',') {
        let (key, value) = match arg.split_once('=') {
            Some((key, value)) => (key, Some(value.to_owned())),
            None => (arg, None),
        };
        match pairs.iter_mut().find(|(known, _)| known == key) {
            Some(pair) => pair.1 = value,
            None => pairs.push((key.to_owned(), value)),
        }
    }
    pairs
}
