package settings

import (
	"fmt"
	"io"
	"strings"

	"github.com/alecthomas/kong"
)

// WriteManual writes the program's manual page in the man macros of roff. About says in one line
// what the program does.
func WriteManual(w io.Writer, app *kong.Application, version, about string) error {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line(`.TH %s 1 "" "%s"`, strings.ToUpper(app.Name), roff(version))
	line(".SH NAME\n%s \\- %s", app.Name, roff(about))
	line(".SH SYNOPSIS\n.B %s\nCOMMAND [flags]", app.Name)
	line(".SH DESCRIPTION")
	for paragraph := range strings.SplitSeq(app.Help, "\n\n") {
		line(".PP\n%s", roff(strings.Join(strings.Fields(paragraph), " ")))
	}
	line(".SH COMMANDS")
	commands(&b, app.Node, "")
	line(".SH OPTIONS\nThe options of every command.")
	for _, f := range app.Flags {
		if !isSetting(f) {
			option(&b, f)
		}
	}
	title := ""
	for _, f := range settingsOf(app) {
		if group := "SETTINGS: " + f.Group.Title; group != title {
			title = group
			line(".SH %s", roff(strings.ToUpper(group)))
		}
		option(&b, f)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// settingsOf returns the settings of all commands in their order, each once.
func settingsOf(app *kong.Application) []*kong.Flag {
	var flags []*kong.Flag
	seen := map[string]bool{}
	_ = kong.Visit(app.Node, func(v kong.Visitable, next kong.Next) error {
		if n, ok := v.(*kong.Node); ok {
			for _, f := range n.Flags {
				if isSetting(f) && f.Group != nil && !seen[f.Name] {
					seen[f.Name] = true
					flags = append(flags, f)
				}
			}
		}
		return next(nil)
	})
	return flags
}

// commands describes the commands below a node, with their own options.
func commands(b *strings.Builder, n *kong.Node, above string) {
	for _, child := range n.Children {
		if child.Hidden {
			continue
		}
		name := above + child.Name
		if len(child.Children) > 0 {
			commands(b, child, name+" ")
			continue
		}
		summary := name
		for _, arg := range child.Positional {
			summary += " " + arg.Summary()
		}
		fmt.Fprintf(b, ".SS %s\n%s\n", roff(summary), roff(child.Help))
		for paragraph := range strings.SplitSeq(child.Detail, "\n\n") {
			switch text := strings.TrimLeft(paragraph, "\t"); {
			case paragraph == "":
			case text != paragraph || strings.Contains(paragraph, "\n\t"): // commands, as they are
				fmt.Fprintf(b, ".PP\n.nf\n.RS\n%s\n.RE\n.fi\n", roff(strings.ReplaceAll(text, "\n\t", "\n")))
			default:
				fmt.Fprintf(b, ".PP\n%s\n", roff(strings.Join(strings.Fields(paragraph), " ")))
			}
		}
		for _, f := range child.Flags {
			if !isSetting(f) && !f.Hidden {
				option(b, f)
			}
		}
	}
}

// option describes a flag.
func option(b *strings.Builder, f *kong.Flag) {
	name := "--" + f.Name
	if f.Short != 0 {
		name = "-" + string(f.Short) + ", " + name
	}
	if !f.IsBool() {
		name += "=" + strings.Trim(f.FormatPlaceHolder(), `"`)
	}
	fmt.Fprintf(b, ".TP\n.B %s\n%s\n", roff(name), roff(f.Help))
}

// roff escapes text for roff.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`, "…", "...", "−", `\-`, "×", `\(mu`).Replace(text)
	lines := strings.Split(text, "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, ".") || strings.HasPrefix(l, "'") {
			lines[i] = `\&` + l
		}
	}
	return strings.Join(lines, "\n")
}
