//! Takes what `/docs` needs of Swagger UI, and its licence, out of the crate that carries it: as it is, and compressed. It
//! compresses `openapi.json`, too.
//!
//! Nothing is fetched: the crate holds the archive of the release. The rest of the archive, most of it, is not used.

use std::error::Error;
use std::fs::{self, File};
use std::io::{self, Cursor, Read, Write};
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use zip::ZipArchive;

/// The files, by the ends of their paths in the archive. The licence (Apache-2.0, section 4) requires that the last two go
/// wherever the others go.
const FILES: [&str; 4] = ["/dist/swagger-ui.css", "/dist/swagger-ui-bundle.js", "/LICENSE", "/NOTICE"];

/// The description of the interface.
const OPENAPI: &str = "src/api/openapi.json";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    let folder = std::env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?;
    let folder = Path::new(&folder);
    let mut archive = ZipArchive::new(Cursor::new(utoipa_swagger_ui_vendored::SWAGGER_UI_VENDORED))?;
    for end in FILES {
        // The folder that holds them is named after the version.
        let index = archive.file_names().position(|path| path.is_ok_and(|path| path.ends_with(end))).ok_or(end)?;
        let name = Path::new(end).file_name().ok_or(end)?.display();
        let mut bytes = Vec::new();
        archive.by_index(index)?.read_to_end(&mut bytes)?;
        fs::write(folder.join(name.to_string()), &bytes)?;
        compress(&bytes, &folder.join(format!("{name}.gz")))?;
    }
    println!("cargo::rerun-if-changed={OPENAPI}");
    compress(&fs::read(OPENAPI)?, &folder.join("openapi.json.gz"))?;
    Ok(())
}

fn compress(bytes: &[u8], path: &Path) -> io::Result<()> {
    let mut compressed = GzEncoder::new(File::create(path)?, Compression::best());
    compressed.write_all(bytes)?;
    compressed.finish().map(drop)
}
