package corpus

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
)

// Files writes good and bad files below root, an empty folder, and others outside of it. It returns
// the records that name the bad ones.
//
// The good ones are good.jpg, sub/good.png and sub/link.jpg, a link to the first.
func Files(t testing.TB, root string) []Case {
	t.Helper()
	outside := layOut(t, root)
	c := &cases{}
	add := func(name, path string, reasons ...string) {
		c.add("file/"+name, []byte(path), reasons...)
		c.add("file-envelope/"+name, object("path", path), reasons...)
	}
	for name, path := range ordered(map[string]string{
		"absolute link out": "out.jpg", "relative link out": "out-relative.jpg", "through an absolute folder": "out/secret.jpg",
		"through a relative folder": "out-folder/secret.jpg", "through the parent": "parent/" + filepath.Base(root) + "/good.jpg",
		"through the top": "top/etc/passwd", "link to a device": "zero.jpg", "link to the environment": "environ.jpg", "link to a link out": "twice.jpg",
		"absolute, outside": filepath.Join(outside, "secret.jpg"), "absolute, next to root": root + "x/good.jpg", "absolute, climbing": root + "/../" + filepath.Base(outside) + "/secret.jpg",
		"climbing back": "../" + filepath.Base(root) + "/good.jpg", "through the link and dots": "out-folder/../good.jpg",
	}) {
		add(name, path, noPath...)
	}
	add("link loop", "loop-a.jpg", "path-not-file", "path-not-found", "path-not-allowed")
	add("dangling link", "dangling.jpg", "path-not-found")
	add("missing", "sub/missing.jpg", "path-not-found")
	add("behind a file", "good.jpg/x", "path-not-found", "path-not-file")
	add("slash at the end", "good.jpg/", "path-not-file")
	add("another case", "GOOD.JPG", "path-not-found", "path-not-file") // not on every file system
	add("folder", "sub/folder", "path-not-file")
	add("link to a folder", "folder.jpg", "path-not-file")
	add("root", root, "path-not-file")
	add("pipe", "pipe.jpg", "path-not-file")
	add("socket", "socket.jpg", "path-not-file")
	add("empty", "empty.jpg", "empty")
	add("sparse terabyte", "sparse.jpg", "too-large")
	add("text", "text.jpg", "not-an-image")
	add("an envelope", "envelope.json", "not-an-image")
	add("half an image", "half.png", broken...)
	add("bomb", "huge.png", bomb...)
	return slices.Clip(c.list)
}

// layOut writes the files, and returns a folder outside of root that some of them are linked to.
func layOut(t testing.TB, root string) (outside string) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	outside = t.TempDir()
	write := func(dir, name string, data []byte) {
		t.Helper()
		must(os.WriteFile(filepath.Join(dir, name), data, 0o600))
	}
	must(os.MkdirAll(filepath.Join(root, "sub", "folder"), 0o700))
	write(outside, "secret.jpg", jpegImage())
	write(root, "good.jpg", jpegImage())
	write(root, "sub/good.png", pngImage())
	write(root, "empty.jpg", nil)
	write(root, "text.jpg", []byte("hello, world\n"))
	write(root, "envelope.json", inEnvelope(jpegImage()))
	write(root, "half.png", pngImage()[:len(pngImage())/2])
	write(root, "huge.png", pngOf(60000, 60000, 8, 2, []byte("x")))
	write(root, "sparse.jpg", jpegImage())
	must(os.Truncate(filepath.Join(root, "sparse.jpg"), 1<<40))
	must(syscall.Mkfifo(filepath.Join(root, "pipe.jpg"), 0o600))
	socket := filepath.Join(root, "socket.jpg")
	if l, err := net.Listen("unix", socket); err == nil { // the name may be too long for a socket
		l.(*net.UnixListener).SetUnlinkOnClose(false)
		must(l.Close())
	} else {
		must(syscall.Mkfifo(socket, 0o600))
	}
	link := func(target, name string) {
		t.Helper()
		must(os.Symlink(target, filepath.Join(root, name)))
	}
	up, err := filepath.Rel(root, outside)
	must(err)
	link("../good.jpg", "sub/link.jpg")
	link(filepath.Join(outside, "secret.jpg"), "out.jpg")
	link(filepath.Join(up, "secret.jpg"), "out-relative.jpg")
	link(outside, "out")
	link(up, "out-folder")
	link("..", "parent")
	link("/", "top")
	link("/dev/zero", "zero.jpg")
	link("/proc/self/environ", "environ.jpg")
	link("out.jpg", "twice.jpg")
	link("loop-b.jpg", "loop-a.jpg")
	link("loop-a.jpg", "loop-b.jpg")
	link("nowhere.jpg", "dangling.jpg")
	link("sub", "folder.jpg")
	return outside
}
