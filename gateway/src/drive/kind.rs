//! What a file is, by its bytes; its name counts only for plain text.

/// How much of a file is looked at, in bytes.
pub const HEAD_BYTES: usize = 8 * 1024;
/// Of what isn't known.
pub const UNKNOWN: &str = "application/octet-stream";
/// Texts that are only text, by the endings of their names.
const TEXTS: [(&str, &str); 7] = [
    ("txt", "text/plain"),
    ("text", "text/plain"),
    ("log", "text/plain"),
    ("md", "text/markdown"),
    ("csv", "text/csv"),
    ("json", "application/json"),
    ("srt", "text/plain"),
];
/// Types under other names than [`infer`] gives them.
const NAMES: [(&str, &str); 5] = [
    ("audio/m4a", "audio/mp4"),
    ("audio/x-flac", "audio/flac"),
    ("audio/x-wav", "audio/wav"),
    ("audio/x-aiff", "audio/aiff"),
    ("video/x-m4v", "video/mp4"),
];
/// What a browser shows or plays without running anything.
const SAFE: [&str; 27] = [
    "image/png",
    "image/gif",
    "image/jpeg",
    "image/webp",
    "image/avif",
    "image/apng",
    "image/bmp",
    "image/tiff",
    "image/x-icon",
    "image/jxl",
    "video/mp4",
    "video/webm",
    "video/mpeg",
    "video/quicktime",
    "video/ogg",
    "video/3gpp",
    "video/x-matroska",
    "audio/mpeg",
    "audio/mp4",
    "audio/aac",
    "audio/opus",
    "audio/ogg",
    "audio/webm",
    "audio/wav",
    "audio/flac",
    "audio/midi",
    "text/plain",
];

/// The type of a file and the ending that its name should have, if there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kind {
    pub media_type: String,
    pub extension: Option<String>,
}

impl Kind {
    fn of(media_type: &str, extension: &str) -> Self {
        Self { media_type: media_type.to_owned(), extension: Some(extension.to_owned()) }
    }
}

/// What a file is whose first bytes these are.
pub fn of(head: &[u8], is_text: bool, name: Option<&str>) -> Kind {
    if is_text && !head.is_empty() {
        if is_svg(head) {
            return Kind::of("image/svg+xml", "svg");
        }
        let extension = name.and_then(|name| name.rsplit_once('.')).map(|(_, end)| end.to_ascii_lowercase());
        let known = TEXTS.iter().find(|(end, _)| extension.as_deref() == Some(end));
        if let Some((_, media_type)) = known {
            return Kind { media_type: (*media_type).to_owned(), extension };
        }
    }
    if is_animated_png(head) {
        return Kind::of("image/apng", "apng");
    }
    match infer::get(head) {
        // What is text to a browser is a program to it as well.
        Some(found) if found.matcher_type() != infer::MatcherType::Text => {
            let name = NAMES.iter().find(|(given, _)| *given == found.mime_type());
            Kind::of(name.map_or(found.mime_type(), |(_, name)| name), found.extension())
        }
        _ => Kind { media_type: UNKNOWN.to_owned(), extension: None },
    }
}

/// Whether a browser may be told what it is.
pub fn is_safe(media_type: &str) -> bool {
    SAFE.contains(&media_type)
}

/// The name with the ending of its type.
pub fn with_extension(name: &str, kind: &Kind) -> String {
    let Some(extension) = &kind.extension else { return name.to_owned() };
    let lower = name.to_lowercase();
    let same: &[&str] = match extension.as_str() {
        "jpg" => &["jpg", "jpeg", "jpe", "jfif"],
        "apng" => &["apng", "png"],
        "tif" => &["tif", "tiff"],
        "mp4" => &["mp4", "m4v", "mov"],
        "m4a" => &["m4a", "mp4", "aac"],
        "ogg" => &["ogg", "oga", "ogv", "opus"],
        "mid" => &["mid", "midi"],
        other => &[other],
    };
    if same.iter().any(|end| lower.strip_suffix(end).is_some_and(|rest| rest.ends_with('.'))) {
        name.to_owned()
    } else {
        format!("{name}.{extension}")
    }
}

/// Whether a text that begins so is a drawing.
pub fn is_svg(head: &[u8]) -> bool {
    let text = String::from_utf8_lossy(head);
    let mut rest = text.trim_start_matches('\u{feff}').trim_start();
    // What may stand before the first element.
    loop {
        let end = match rest {
            _ if rest.starts_with("<?") => "?>",
            _ if rest.starts_with("<!--") => "-->",
            _ if rest.starts_with("<!") => ">",
            _ => break,
        };
        let Some((_, after)) = rest.split_once(end) else { return false };
        rest = after.trim_start();
    }
    let Some(after) = rest.strip_prefix("<svg") else { return false };
    after.starts_with(|c: char| c.is_whitespace() || c == '>' || c == '/')
}

fn is_animated_png(head: &[u8]) -> bool {
    const SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";
    let Some(mut rest) = head.strip_prefix(SIGNATURE) else { return false };
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let Some((name, after)) = after.split_first_chunk::<4>() else { return false };
        match name {
            b"acTL" => return true,
            b"IDAT" => return false,
            _ => {
                let skipped = u64::from(u32::from_be_bytes(*length)) + 4;
                let skipped = usize::try_from(skipped).unwrap_or(usize::MAX);
                let Some(next) = after.get(skipped..) else { return false };
                rest = next;
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn media_type(head: &[u8], name: &str) -> String {
        let is_text = std::str::from_utf8(head).is_ok() && !head.contains(&0);
        of(head, is_text, Some(name)).media_type
    }

    #[test]
    fn a_file_is_what_its_bytes_are() {
        let png =
            b"\x89PNG\r\n\x1a\n\x00\x00\x00\x0dIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x02\x00\x00\x00crc!";
        assert_eq!(media_type(png, "page.html"), "image/png");
        let animated = [png.as_slice(), b"\x00\x00\x00\x08acTL"].concat();
        assert_eq!(media_type(&animated, "a.png"), "image/apng");
        let still = [png.as_slice(), b"\x00\x00\x00\x00IDAT\x00\x00\x00\x00\x00\x00\x00\x08acTL"].concat();
        assert_eq!(media_type(&still, "a.png"), "image/png");
        assert_eq!(media_type(b"hello\n", "hello.txt"), "text/plain");
        assert_eq!(media_type(b"{}", "a.JSON"), "application/json");
        assert_eq!(media_type(b"<svg xmlns='x'><script>1</script></svg>", "a.txt"), "image/svg+xml");
        assert_eq!(media_type(b"<?xml version='1.0'?><!-- x --><svg/>", "a"), "image/svg+xml");
        for (head, name) in [
            (&b"<!doctype html><script>1</script>"[..], "page.html"),
            (b"<svgx/>", "a.svg"),
            (b"", "a.txt"),
            (b"hello\0", "a.txt"),
            (b"#!/bin/sh", "a.sh"),
        ] {
            assert_eq!(media_type(head, name), UNKNOWN, "{name}");
        }
    }

    #[test]
    fn a_name_ends_as_its_type_asks() {
        let jpeg = Kind::of("image/jpeg", "jpg");
        assert_eq!(with_extension("untitled", &jpeg), "untitled.jpg");
        assert_eq!(with_extension("a.JPEG", &jpeg), "a.JPEG");
        assert_eq!(with_extension("a.png", &jpeg), "a.png.jpg");
        assert_eq!(with_extension("xjpg", &jpeg), "xjpg.jpg");
        assert_eq!(with_extension("a", &Kind { media_type: UNKNOWN.to_owned(), extension: None }), "a");
    }

    #[test]
    fn nothing_that_runs_is_safe() {
        for active in ["image/svg+xml", "text/html", "application/pdf", "application/xhtml+xml", UNKNOWN] {
            assert!(!is_safe(active), "{active}");
        }
    }
}
