//! Pictures that are drawn from a text (SVG): what moves, asks for something from elsewhere, runs, or is written
//! in letters is left out.

use image::{DynamicImage, RgbaImage};
use resvg::tiny_skia::{IntSize, Pixmap, Transform};
use resvg::usvg::{ImageHrefResolver, Options, Tree};

use super::look::{MAX_SIDE, Unread};

/// Widest and highest it is drawn, in pixels; a larger one is drawn smaller.
const DRAWN_SIDE: u32 = 2_048;

/// A picture that was drawn.
pub struct Drawn {
    pub picture: DynamicImage,
    /// In pixels, as the file says.
    pub width: u32,
    pub height: u32,
}

/// Draws it. The process that does is bound in memory and time.
pub fn drawn(file: &[u8]) -> Result<Drawn, Unread> {
    let nothing =
        ImageHrefResolver { resolve_data: Box::new(|_, _, _| None), resolve_string: Box::new(|_, _| None) };
    let tree = Tree::from_data(file, &Options { image_href_resolver: nothing, ..Options::default() })?;
    let size = tree.size().to_int_size();
    if size.width() > MAX_SIDE || size.height() > MAX_SIDE {
        return Err("too large".into());
    }
    let small = IntSize::from_wh(size.width().min(DRAWN_SIDE), size.height().min(DRAWN_SIDE));
    let on = small.map(|small| size.scale_to(small)).ok_or("no size")?;
    let mut pixels = Pixmap::new(on.width(), on.height()).ok_or("no room")?;
    let (across, down) = (tree.size().width(), tree.size().height());
    let scale = Transform::from_scale(pixels.width() as f32 / across, pixels.height() as f32 / down);
    resvg::render(&tree, scale, &mut pixels.as_mut());
    let straight = pixels.pixels().iter().flat_map(|pixel| {
        let colour = pixel.demultiply();
        [colour.red(), colour.green(), colour.blue(), colour.alpha()]
    });
    let picture = RgbaImage::from_raw(on.width(), on.height(), straight.collect()).ok_or("no room")?;
    Ok(Drawn { picture: picture.into(), width: size.width(), height: size.height() })
}

#[cfg(test)]
mod tests {
    use image::{GenericImageView, Rgba};

    use super::*;

    fn svg(rest: &str) -> Result<Drawn, Unread> {
        drawn(format!(r#"<svg xmlns="http://www.w3.org/2000/svg" {rest}</svg>"#).as_bytes())
    }

    #[test]
    fn what_is_drawn_is_what_the_text_says() {
        let drawn =
            svg(r##"width="20" height="10"><script>1</script><rect width="10" height="10" fill="#00f8"/>"##)
                .unwrap();
        assert_eq!((drawn.width, drawn.height, drawn.picture.dimensions()), (20, 10, (20, 10)));
        assert_eq!(drawn.picture.get_pixel(5, 5), Rgba([0, 0, 255, 136]));
        assert_eq!(drawn.picture.get_pixel(15, 5), Rgba([0, 0, 0, 0]));
        let wide = svg(r#"viewBox="0 0 8192 4096"><path d="M0 0H8192V4096H0z"/>"#).unwrap();
        assert_eq!((wide.width, wide.height, wide.picture.dimensions()), (8_192, 4_096, (2_048, 1_024)));
        assert_eq!(wide.picture.get_pixel(2_047, 1_023), Rgba([0, 0, 0, 255]));
    }

    #[test]
    fn nothing_is_fetched_and_what_is_too_much_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret.svg");
        let red = r#"<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><rect width="9" height="9" fill="red"/></svg>"#;
        std::fs::write(&path, red).unwrap();
        let data = format!("data:image/svg+xml;utf8,{}", red.replace('"', "'").replace('<', "%3C"));
        for href in [path.display().to_string(), data] {
            let drawn = svg(&format!(r#"width="9" height="9"><image width="9" height="9" href="{href}"/>"#));
            assert_eq!(drawn.unwrap().picture.get_pixel(4, 4), Rgba([0, 0, 0, 0]), "{href}");
        }
        let laughs = r#"<!DOCTYPE svg [<!ENTITY a "lol"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">
            <!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;"><!ENTITY d "&c;&c;&c;&c;&c;&c;&c;&c;&c;&c;">]>
            <svg xmlns="http://www.w3.org/2000/svg"><text>&d;&d;&d;&d;&d;&d;&d;&d;&d;&d;</text></svg>"#;
        assert!(drawn(laughs.as_bytes()).is_err());
        assert!(svg(r#"width="100000" height="1">"#).is_err());
        assert!(svg(r#"width="0" height="0">"#).is_err());
        assert!(drawn(b"<svg").is_err());
    }
}
