package settings

import (
	"encoding"
	"fmt"
	"iter"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kong"
)

// Choices returns the words that a setting may be, or nil if it is none of a few words. They are in
// kong's tag enum or, where the type accepts more spellings than these, in the tag values.
func Choices(v *kong.Value) []string {
	list := v.Enum
	if list == "" {
		list = v.Tag.Get("values")
	}
	if list == "" {
		return nil
	}
	words := strings.Split(list, ",")
	for i := range words {
		words[i] = strings.TrimSpace(words[i])
	}
	return words
}

// IsSecret tells whether a setting's value must not be shown.
func IsSecret(v *kong.Value) bool { return v.Tag.Has("secret") }

// IsCommon tells whether most users need to know the setting.
func IsCommon(v *kong.Value) bool { return v.Tag.Has("common") }

// mistake says what is wrong with a value, or returns an empty string. All sources are checked by
// it, so they are told with the same words.
func mistake(v *kong.Value, text string) string {
	if choices := Choices(v); choices != nil {
		if slices.Contains(choices, text) || v.Enum == "" && parses(v, text) {
			return ""
		}
		return shown(text) + "; want " + want(v, text) + guess(text, slices.Values(choices))
	}
	if parses(v, text) {
		return ""
	}
	return shown(text) + "; want " + want(v, text)
}

// octal matches a number that is octal for some readers of YAML, and decimal for others.
var octal = regexp.MustCompile(`^[+-]?0_?[0-9]`)

// parses tells whether a text is a value of the setting's type.
func parses(v *kong.Value, text string) bool {
	t := v.Target.Type()
	if u, ok := reflect.New(t).Interface().(encoding.TextUnmarshaler); ok {
		return u.UnmarshalText([]byte(text)) == nil
	}
	if t == reflect.TypeFor[time.Duration]() {
		_, err := time.ParseDuration(text)
		return err == nil
	}
	var err error
	switch t.Kind() {
	case reflect.Bool:
		return slices.Contains([]string{"true", "1", "yes", "false", "0", "no"}, strings.ToLower(text))
	case reflect.Int, reflect.Int64:
		_, err = strconv.ParseInt(text, 0, t.Bits())
		return err == nil && !octal.MatchString(text)
	case reflect.Float64:
		_, err = strconv.ParseFloat(text, 64)
	}
	return err == nil
}

// want says what a setting may be. The text is what was given in its place.
func want(v *kong.Value, text string) string {
	if choices := Choices(v); choices != nil {
		return anyOf(choices)
	}
	t := v.Target.Type()
	if f, ok := reflect.New(t).Interface().(interface{ Form() string }); ok {
		return f.Form()
	}
	if t == reflect.TypeFor[time.Duration]() {
		if _, err := strconv.ParseFloat(text, 64); err == nil {
			return fmt.Sprintf("a time with its unit: %sms, %[1]ss, %[1]sm or %[1]sh", text)
		}
		return "a time such as 500ms, 20s, 5m or 1h30m"
	}
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int64:
		if octal.MatchString(text) {
			return "a whole number without 0 before it"
		}
		if n, err := strconv.ParseFloat(text, 64); err == nil && (n > 1e18 || n < -1e18) {
			return "a smaller number"
		}
		return "a whole number"
	case reflect.Float64:
		return "a number"
	case reflect.Slice:
		return "a text or a list of texts"
	}
	return "a text"
}

var aroundCommas = regexp.MustCompile(`\s*,\s*`)

// trimmed returns a list in one text, a,b, without spaces around its elements.
func trimmed(list string) string {
	return aroundCommas.ReplaceAllString(strings.TrimSpace(list), ",")
}

// anyOf lists words: a, b or c.
func anyOf(words []string) string {
	last := len(words) - 1
	if last == 0 {
		return words[0]
	}
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

// maxShown is how much of a wrong value is repeated, in characters.
const maxShown = 60

// shown quotes what was given.
func shown(text string) string {
	text = withoutSecrets(text) // before the cut, which could leave a part of one
	if r := []rune(text); len(r) > maxShown {
		return strconv.Quote(string(r[:maxShown])) + "…"
	}
	return strconv.Quote(text)
}

// cut returns the beginning of a text that is too long to be shown.
func cut(text string) string {
	if len(text) > maxShown {
		if r := []rune(text); len(r) > maxShown {
			return string(r[:maxShown]) + "…"
		}
	}
	return text
}

// maxGuessed is far above the length of a name, in bytes. Longer ones would take long to compare.
const maxGuessed = 100

// guess suggests the name that was probably meant, or returns an empty string.
func guess(name string, known iter.Seq[string]) string {
	if len(name) > maxGuessed {
		return ""
	}
	last := name[strings.LastIndex(name, ".")+1:]
	best, least := "", 2+len(last)/4 // less than this is near
	var elsewhere []string           // names that end alike
	for _, candidate := range slices.Sorted(known) {
		d := distance(strings.ToLower(name), strings.ToLower(candidate))
		if len(last) > 2 && strings.HasPrefix(candidate, name) {
			d = min(d, 1)
		}
		if d < least {
			best, least = candidate, d
		}
		if strings.HasSuffix(candidate, "."+last) {
			elsewhere = append(elsewhere, candidate)
		}
	}
	switch {
	case best != "":
		return fmt.Sprintf(" (did you mean %s?)", best)
	case len(elsewhere) == 1:
		return fmt.Sprintf(" (did you mean %s?)", elsewhere[0])
	}
	return ""
}

// distance is the number of letters to insert, remove, replace or swap with the next one that turn
// a into b.
func distance(a, b string) int {
	before, row := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		next := make([]int, len(b)+1)
		next[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			next[j+1] = min(row[j+1]+1, next[j]+1, row[j]+cost)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				next[j+1] = min(next[j+1], before[j-1]+1)
			}
		}
		before, row = row, next
	}
	return row[len(b)]
}
