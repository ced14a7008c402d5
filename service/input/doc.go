// Package input reads the encoded image that a record's value is, holds or names.
//
// A value is one of these, by --input.format or by its content:
//
//   - an image: the bytes of a JPEG, PNG, GIF, BMP or WebP;
//   - a JSON envelope {"image": base64}, {"url": "…"} or {"path": "…"} with
//     exactly one of the three; null counts as absent, other keys are ignored;
//   - text: an http or https URL, else the path of a file.
//
// Spaces and line ends around a URL or a path are ignored.
//
// Files and URLs are read only as far as the configuration allows. Files must
// lie below one root: paths with ".." are refused, and so are symbolic links
// that lead out of it or have an absolute target. URLs must name a listed host,
// redirects too, and the address that is dialled must be public or listed,
// whatever the name resolved to before. Bytes, time, redirects and concurrent
// fetches are bounded. Proxies and cookies are not used.
//
// An *Error says that this record cannot be read, and why: make it a dead
// letter. Faults that may pass (a server that is down or overloaded, a file
// server that lost its handle) are tried again first, a few times and within
// --input.fetch.timeout. Any other error does not blame the record: the context
// ended, the process lacks file descriptors or memory, or the root folder is
// missing.
package input
