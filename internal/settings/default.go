package settings

import "github.com/alecthomas/kong"

// Default returns a struct of settings with the defaults of its tags, for code that no command line
// reaches. It panics if the tags are wrong.
func Default[T any]() T {
	var c struct {
		Settings T `embed:""`
	}
	parser, err := kong.New(&c, kong.NoDefaultHelp())
	if err == nil {
		_, err = parser.Parse(nil)
	}
	if err != nil {
		panic(err)
	}
	return c.Settings
}
