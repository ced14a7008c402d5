package settings

import (
	"embed"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// Shells are those for which there is a completion script.
var Shells = []string{"bash", "zsh", "fish", "powershell"}

//go:embed complete
var scripts embed.FS

// WriteCompletion writes the script that makes a shell complete the program's command lines. The
// script asks the program itself: see Complete.
func WriteCompletion(w io.Writer, shell, program string) error {
	script, err := scripts.ReadFile("complete/" + shell)
	if err != nil {
		return fmt.Errorf("no completion for the shell %s; want %s", shell, anyOf(Shells))
	}
	_, err = io.WriteString(w, strings.ReplaceAll(string(script), "PROGRAM", program))
	return err
}

// CompleteFiles is the only line of Complete where a file or folder is wanted.
const CompleteFiles = ":files"

// Complete returns what the last of the words may become, each with a tab and its help, or
// CompleteFiles. The words are those after the program's name.
func Complete(app *kong.Application, words []string) []string {
	if len(words) == 0 {
		words = []string{""}
	}
	before, last := words[:len(words)-1], words[len(words)-1]
	s := Settings{app: app}
	named := s.command(before)
	node := orDefault(named)
	if name, value, ok := strings.Cut(last, "="); ok { // --flag=value
		if flag := flagOf(node, name); flag != nil {
			return valuesOf(flag, name+"=", value)
		}
		return nil
	}
	if len(before) > 0 { // --flag value
		previous := before[len(before)-1]
		if flag := flagOf(node, previous); flag != nil && !flag.IsBool() && !strings.Contains(previous, "=") {
			return valuesOf(flag, "", last)
		}
	}
	if strings.HasPrefix(last, "-") {
		return flagsOf(node, last)
	}
	var found []string
	for _, child := range named.Children {
		if !child.Hidden && strings.HasPrefix(child.Name, last) {
			found = append(found, child.Name+"\t"+child.Help)
		}
	}
	if len(found) == 0 && len(node.Positional) > 0 {
		return positionalOf(app, node.Positional[0], last)
	}
	return found
}

// flagsOf lists the flags of a command. The advanced settings come once one is begun.
func flagsOf(node *kong.Node, last string) []string {
	var found []string
	for n := node; n != nil; n = n.Parent {
		for _, f := range n.Flags {
			advanced := isSetting(f) && !IsCommon(f.Value)
			if name := "--" + f.Name; !f.Hidden && strings.HasPrefix(name, last) && (!advanced || len(last) > len("--")) {
				found = append(found, name+"\t"+f.Help)
			}
		}
	}
	slices.Sort(found)
	return found
}

// valuesOf lists the values of a flag.
func valuesOf(flag *kong.Flag, prefix, begun string) []string {
	choices := Choices(flag.Value)
	switch {
	case choices != nil:
	case flag.IsBool():
		choices = []string{"true", "false"}
	case isPath(flag.Tag.Type, flag.PlaceHolder):
		return []string{CompleteFiles}
	}
	var found []string
	for _, c := range choices {
		if strings.HasPrefix(c, begun) {
			found = append(found, prefix+c)
		}
	}
	return found
}

// positionalOf lists the values of an argument.
func positionalOf(app *kong.Application, arg *kong.Positional, begun string) []string {
	if isPath(arg.Tag.Type, arg.Tag.PlaceHolder) {
		return []string{CompleteFiles}
	}
	choices := Choices(arg)
	if arg.Tag.PlaceHolder == "COMMAND" {
		for _, n := range app.Children {
			if !n.Hidden {
				choices = append(choices, n.Name)
			}
		}
	}
	return slices.DeleteFunc(choices, func(c string) bool { return !strings.HasPrefix(c, begun) })
}

func isPath(kind, placeholder string) bool {
	return slices.Contains([]string{"path", "existingfile", "existingdir"}, kind) ||
		slices.Contains([]string{"FILE", "DIR", "PATH", "FOLDER"}, placeholder)
}
