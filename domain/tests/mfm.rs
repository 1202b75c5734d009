//! MFM against trees that `mfm-js` made (`mfm/trees.json`), and against whatever else a text may be.

use std::time::{Duration, Instant};

use domain::mfm::{MAX_NESTING, Node, parse, parse_simple};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// Far more than any text takes, and far less than one that is read again and again.
const SOON: Duration = Duration::from_secs(20);

fn trees(nodes: &[Node]) -> Value {
    nodes.iter().map(tree).collect()
}

/// A node as `mfm-js` prints it.
fn tree(node: &Node) -> Value {
    let holds = |kind: &str, children: &[Node]| json!({ "type": kind, "children": trees(children) });
    let says = |kind: &str, name: &str, text: &str| json!({ "type": kind, "props": { name: text } });
    match node {
        Node::Text(text) => says("text", "text", text),
        Node::Bold(children) => holds("bold", children),
        Node::Italic(children) => holds("italic", children),
        Node::Small(children) => holds("small", children),
        Node::Strike(children) => holds("strike", children),
        Node::Center(children) => holds("center", children),
        Node::Quote(children) => holds("quote", children),
        Node::InlineCode(code) => says("inlineCode", "code", code),
        Node::CodeBlock { code, lang } => {
            json!({ "type": "blockCode", "props": { "code": code, "lang": lang } })
        }
        Node::MathInline(formula) => says("mathInline", "formula", formula),
        Node::MathBlock(formula) => says("mathBlock", "formula", formula),
        Node::EmojiCode(name) => says("emojiCode", "name", name),
        Node::UnicodeEmoji(emoji) => says("unicodeEmoji", "emoji", emoji),
        Node::Mention { username, host } => {
            let at = host.as_ref().map_or_else(String::new, |host| format!("@{host}"));
            let acct = format!("@{username}{at}");
            json!({ "type": "mention", "props": { "username": username, "host": host, "acct": acct } })
        }
        Node::Hashtag(tag) => says("hashtag", "hashtag", tag),
        Node::Url { url, brackets: false } => says("url", "url", url),
        Node::Url { url, brackets: true } => {
            json!({ "type": "url", "props": { "url": url, "brackets": true } })
        }
        Node::Link { silent, url, children } => {
            json!({ "type": "link", "props": { "silent": silent, "url": url }, "children": trees(children) })
        }
        Node::Fn { name, args, children } => {
            let value = |value: &Option<String>| value.as_ref().map_or(json!(true), |value| json!(value));
            let args: Map<String, Value> = args.iter().map(|(key, v)| (key.clone(), value(v))).collect();
            json!({ "type": "fn", "props": { "name": name, "args": args }, "children": trees(children) })
        }
        Node::Plain(text) => json!({ "type": "plain", "children": [says("text", "text", text)] }),
        Node::Search { query, content } => {
            json!({ "type": "search", "props": { "query": query, "content": content } })
        }
    }
}

#[test]
fn texts_are_read_as_mfm_js_reads_them() {
    let corpus: Vec<Value> = serde_json::from_str(include_str!("mfm/trees.json")).unwrap();
    for case in &corpus {
        let text = case["text"].as_str().unwrap();
        assert_eq!(trees(&parse(text)), case["full"], "{text:?}");
        assert_eq!(trees(&parse_simple(text)), case["simple"], "{text:?} as a name");
    }
}

/// How deep the nodes are nested, without a recursion that the test is about.
fn depth(nodes: &[Node]) -> usize {
    let (mut level, mut depth): (Vec<&Node>, usize) = (nodes.iter().collect(), 0);
    while !level.is_empty() {
        depth += 1;
        level = level.into_iter().flat_map(Node::children).collect();
    }
    depth
}

#[test]
fn no_text_takes_long_or_is_nested_deep() {
    let units = [
        "*",
        "**",
        "***",
        "[",
        "?[",
        "$[",
        "$[x ",
        "<b>",
        "[<b>",
        "<b>[",
        "[$[x ",
        "`",
        "\\(",
        "\\[",
        "~~",
        "<s>~~",
        "<https://",
        "https://(",
        "<plain>",
        "<center>\n",
        "> ",
        ">\n",
        "\n\n> a",
        "```\n",
        "```a\n```b\n",
        "@",
        "@a",
        "#(",
        "#a(",
        "_a",
        ":a",
        "[a](https://",
        "x search\n",
        "**a $[x.y=z b [c",
        "1",
        "☺",
        "\r",
        "a\n",
    ];
    for unit in units {
        let text = unit.repeat(100_000 / unit.len());
        let began = Instant::now();
        let nodes = parse(&text);
        assert!(began.elapsed() < SOON, "{unit:?} took {:?}", began.elapsed());
        assert!(depth(&nodes) <= MAX_NESTING + 1, "{unit:?} is nested {} deep", depth(&nodes));
        parse_simple(&text);
    }
}

proptest! {
    #[test]
    fn any_text_is_some_tree(text in any::<String>()) {
        parse(&text);
        parse_simple(&text);
    }

    #[test]
    fn any_markup_is_a_tree_of_its_own_text(parts in prop::collection::vec(prop::sample::select(vec![
        "*", "**", "***", "_", "__", "~~", "`", "```", "\n", "\r\n", ">", "> ", "<b>", "</b>", "<i>", "</i>", "<s>",
        "</s>", "<small>", "</small>", "<center>", "</center>", "<plain>", "</plain>", "$[", "$[x.a=1,b ", "]", "[",
        "?[", "](", "(", ")", "https://", "x.example", "<https://", "@", "alice", "#", "tag", ":", "blob", "\\(", "\\)",
        "\\[", "\\]", " ", "\u{3000}", "search", "1", ".", "👍", "\u{fe0f}", "「", "」", "日本", "´",
    ]), 0..40)) {
        let text = parts.concat();
        let nodes = parse(&text);
        prop_assert!(depth(&nodes) <= MAX_NESTING + 1);
        let mut level: Vec<&Node> = nodes.iter().collect();
        while let Some(node) = level.pop() {
            if let Node::Text(words) = node {
                // A quote joins its lines.
                prop_assert!(words.lines().all(|line| text.contains(line.trim_end_matches('\r'))), "{words:?}");
            }
            level.extend(node.children());
        }
    }
}
