package corpus

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
)

// envelopes adds JSON that is broken, wrong, or holds something bad.
func (c *cases) envelopes() {
	good := base64.StdEncoding.EncodeToString(pngImage())
	quoted := `"` + good + `"`
	bad := func(name, text string, more ...string) {
		c.add("envelope/"+name, []byte(text), append(more, "bad-envelope")...)
	}
	for _, key := range []string{"image", "url", "path"} {
		for name, v := range ordered(map[string]string{
			"null": "null", "true": "true", "number": "12", "huge number": "1e999", "array": "[" + quoted + "]",
			"object": `{"x":1}`, "nothing": "", "two strings": `"a" "b"`, "a word": "abc", "single quotes": `'a'`, "control character": "\"a\x01\"",
			"lone escape": `"\"`, "bad escape": `"\x41"`, "bad unicode escape": `"\u00g0"`,
		}) {
			bad(fmt.Sprintf("%s is %s", key, name), fmt.Sprintf(`{%q:%s}`, key, v))
		}
		bad(key+" twice", fmt.Sprintf(`{%q:%s,%q:%s}`, key, quoted, key, quoted))
		bad(key+" twice, once null", fmt.Sprintf(`{%q:%s,%q:null}`, key, quoted, key))
		bad(key+" twice, once escaped", fmt.Sprintf(`{%q:%s,"\u%04x%s":%s}`, key, quoted, key[0], key[1:], quoted))
		bad(key+" in capitals", fmt.Sprintf(`{%q:%s}`, strings.ToUpper(key), quoted))
		bad(key+" with a space", fmt.Sprintf(`{%q:%s}`, key+" ", quoted))
		bad(key+" inside", fmt.Sprintf(`{"data":{%q:%s}}`, key, quoted))
	}
	bad("empty object", "{}")
	bad("other keys only", `{"a":1,"b":"c"}`)
	bad("image and url", `{"image":`+quoted+`,"url":"http://example.com/"}`)
	bad("image and path", `{"image":`+quoted+`,"path":"a.jpg"}`)
	bad("url and path", `{"url":"http://example.com/","path":"a.jpg"}`)
	bad("all three", `{"image":`+quoted+`,"url":"http://example.com/","path":"a.jpg"}`)
	bad("open", `{`)
	bad("open in a key", `{"ima`)
	bad("open after a key", `{"image"`)
	bad("open after a colon", `{"image":`)
	bad("open in a value", `{"image":"`+good[:50])
	bad("open after a value", `{"image":`+quoted)
	bad("open after a comma", `{"image":`+quoted+`,`)
	bad("comma at the end", `{"image":`+quoted+`,}`)
	bad("two objects", `{"image":`+quoted+`}{"image":`+quoted+`}`)
	bad("something behind", `{"image":`+quoted+`}x`)
	bad("NUL behind", `{"image":`+quoted+"}\x00")
	bad("comment", `{/* */"image":`+quoted+`}`)
	bad("key without quotes", `{image:`+quoted+`}`)
	bad("not UTF-8", "{\"path\":\"\xff\xfe\"}")
	bad("UTF-16", "{\x00\"\x00i\x00m\x00a\x00g\x00e\x00\"\x00")
	for _, n := range []int{100, 9_999, 100_000, 1_000_000} {
		bad(fmt.Sprintf("objects %d deep", n), strings.Repeat(`{"a":`, n), "too-large")
		bad(fmt.Sprintf("arrays %d deep", n), `{"a":`+strings.Repeat(`[`, n), "too-large")
	}
	bad("arrays 5000 deep, closed", `{"a":`+strings.Repeat(`[`, 5000)+strings.Repeat(`]`, 5000)+`}`)
	bad("100000 keys", `{`+strings.Repeat(`"a":1,`, 100_000)+`"b":2}`, "too-large")
	for name, v := range ordered(map[string]string{
		"array": `[{"image":` + quoted + `}]`, "string": quoted, "number": "12", "true": "true", "XML": "<image>" + good + "</image>", "bare base64": good,
	}) {
		c.add("envelope/not an object, "+name, []byte(v), noText...)
	}
	c.base64s(good)
}

// base64s adds images in envelopes whose encoding, or what it holds, is wrong.
func (c *cases) base64s(good string) {
	for name, v := range ordered(map[string]string{
		"other letters": "!!!!", "one letter": "A", "five letters": "ABCDE", "inside": good[:40] + "*" + good[41:], "space inside": good[:40] + " " + good[40:],
		"both alphabets": "ab+_", "padding inside": "AA==AAAA", "padding only": "=", "three paddings": "A===",
		"data URL, not base64": "data:image/png,abc", "data URL of text": "data:text/plain;base64," + good, "data URL without comma": "data:image/png;base64",
		"URL in place": "http://example.com/a.jpg", "path in place": "../a.jpg", "umlaut": "äöü=",
	}) {
		b, err := json.Marshal(map[string]string{"image": v})
		if err != nil {
			panic(err) // a map of strings
		}
		c.add("base64/"+name, b, "bad-envelope", "empty")
	}
	c.add("base64/empty", object("image", ""), "empty")
	c.add("base64/empty data URL", object("image", "data:image/png;base64,"), "empty")
	c.add("base64/twice encoded", inEnvelope([]byte(good)), "not-an-image")
	c.add("base64/of an envelope", inEnvelope(inEnvelope(pngImage())), "not-an-image")
	c.add("base64/of a path", inEnvelope([]byte("/etc/passwd")), "not-an-image")
	c.add("base64/13 MB of zeros", []byte(`{"image":"`+strings.Repeat("AAAA", 13_000_000/3)+`"}`), "too-large", "not-an-image")
	c.add("base64/huge png", inEnvelope(pngOf(60000, 60000, 8, 2, []byte("x"))), bomb...)
	for kind, b := range ordered(Good()) {
		c.list = append(c.list, Case{
			Name: "base64/half a " + kind, Value: inEnvelope(b[:len(b)/2]), Reasons: broken, Either: kind == "gif-frames",
		})
	}
}
