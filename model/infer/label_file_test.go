package infer

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"inceptor/model/internal/modeltest"
)

func TestParseLabels(t *testing.T) {
	for _, test := range []struct {
		name, text string
		isJSON     bool
		want       []string
		err        string // part of it; empty: none
	}{
		{name: "lines", text: "cat\ndog\n", want: []string{"cat", "dog"}},
		{name: "Windows' ends", text: "cat\r\nbig dog\r\n\r\n", want: []string{"cat", "big dog"}},
		{name: "spaces around", text: " cat \n\tdog", want: []string{"cat", "dog"}},
		{name: "the same twice", text: "crane\nmaillot\ncrane\n", want: []string{"crane", "maillot", "crane"}},
		{name: "an empty line", text: "cat\n\ndog\n", err: "line 2 is empty"},
		{name: "the first line is empty", text: "\ncat\n", err: "line 1 is empty"},
		{name: "nothing", text: "\n", err: "it is empty"},
		{name: "too many", text: strings.Repeat("x\n", maxLabels) + "x", err: "it has 1048577 lines, over the limit of 1048576"},

		{name: "Teachable Machine", text: "0 Cat\n1 Dog\n2 Bird of prey\n", want: []string{"Cat", "Dog", "Bird of prey"}},
		{name: "a colon", text: "0: cat\n1: dog", want: []string{"cat", "dog"}},
		{name: "slim", text: "0:background\n1:tench, Tinca tinca", want: []string{"background", "tench, Tinca tinca"}},
		{name: "tabs and ends of Windows", text: "0\tcat\r\n1 : dog\r\n", want: []string{"cat", "dog"}},
		{name: "one", text: "0 cat", want: []string{"cat"}},
		{name: "in another order", text: "2 c\n0 a\n1 b\n", want: []string{"a", "b", "c"}},
		{name: "from 1", text: "1 cat\n2 dog\n", want: []string{"1 cat", "2 dog"}},
		{name: "a gap", text: "0 cat\n2 dog\n", want: []string{"0 cat", "2 dog"}},
		{name: "a number twice", text: "1 cat\n1 dog\n0 cow\n", want: []string{"1 cat", "1 dog", "0 cow"}},
		{name: "names that begin with numbers", text: "7 up\n3D printer\n", want: []string{"7 up", "3D printer"}},
		{name: "not all are numbered", text: "0 cat\n1 dog\nbird\n", want: []string{"0 cat", "1 dog", "bird"}},
		{name: "numbers alone", text: "0\n1\n2\n", want: []string{"0", "1", "2"}},
		{name: "a number too large", text: "99999999999999999999 cat\n", want: []string{"99999999999999999999 cat"}},

		{name: "imagenet_class_index.json", text: `{"1": ["n01443537", "goldfish"], "0": ["n01440764", "tench"]}`, isJSON: true, want: []string{"tench", "goldfish"}},
		{name: "a list", text: `["tench", " goldfish "]` + "\n", want: []string{"tench", "goldfish"}},
		{name: "a list of pairs", text: `[["n01440764", "tench"]]`, want: []string{"tench"}},
		{name: "class_indices of Keras", text: `{"tench": 1, "goldfish": 0}`, want: []string{"goldfish", "tench"}},
		{name: "words of numbers", text: `{"0": "tench", "1": "goldfish"}`, want: []string{"tench", "goldfish"}},
		{name: "words that are numbers", text: `{"7": 0, "3": 1}`, want: []string{"7", "3"}},
		{name: "the same word twice", text: `{"crane": 0, "x": 1, "crane": 2}`, want: []string{"crane", "x", "crane"}},
		{name: "from class 1", text: `{"1": "tench", "2": "goldfish"}`, want: []string{"", "tench", "goldfish"}},
		{name: "a class twice", text: `{"0": "tench", "0": "goldfish"}`, err: `class 0 has two labels, "tench" and "goldfish"`},
		{name: "a class without a label", text: `{"0": "tench", "2": "goldfish"}`, err: "class 1 has no label, but later classes have"},
		{name: "a far class", text: `{"0": "tench", "1048575": "goldfish"}`, err: "class 1 has no label"},
		{name: "a class that is too far", text: `{"1048576": "tench"}`, err: `"1048576" is not the number of a class`},
		{name: "a negative class", text: `{"tench": -1}`, err: `"-1" is not the number of a class`},
		{name: "a fraction", text: `{"tench": 0.5}`, err: `"0.5" is not the number of a class`},
		{name: "words of words", text: `{"tench": "fish"}`, err: `"tench" is not the number of a class: want ["cat", …], {"0": "cat", …}`},
		{name: "an object of a file of another kind", text: `{"id2label": {"0": "tench"}}`, err: "is not the number of a class"},
		{name: "a list of numbers", text: `["tench", 1.5]`, err: `"1.5" is not a label: want ["cat", …]`},
		{name: "a list of whole numbers", text: `[1, 2, 0]`, err: `"1" is not a label: want ["cat", …]`},
		{name: "null", text: `{"0": null}`, err: "is not the number of a class"},
		{name: "an empty label", text: `["tench", ""]`, err: "the label of class 1 is empty"},
		{name: "an empty list", text: `[]`, err: "it has no labels"},
		{name: "a long value", text: `{"0": ["` + strings.Repeat("x", 2*maxWordBytes) + `", "y"]}`, err: "a label has more than 4096 bytes"},
		{name: "deep", text: strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000), isJSON: true, err: "it is not JSON"},
		{name: "cut off", text: `["tench", "gold`, isJSON: true, err: "it is not JSON"},
		{name: "lines in a .json", text: "cat\ndog\n", isJSON: true, err: "it is not JSON"},
		{name: "a number in a .json", text: "7", isJSON: true, err: `want ["cat", …]`},
		{name: "Python's dict", text: "{0: 'tench',\n 1: 'goldfish'}", err: "it begins with { but is not JSON"},
		{name: "a label in brackets", text: "[UNK]\ncat\n", want: []string{"[UNK]", "cat"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := parseLabels([]byte(test.text), test.isJSON)
			if test.err == "" && err != nil || test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)) || !slices.Equal(got, test.want) {
				t.Errorf("got %q, %v\nwant %q, %s", got, err, test.want, test.err)
			}
		})
	}
}

func FuzzParseLabels(f *testing.F) {
	for _, text := range []string{"0 a\n1: b", "n01440764 tench", `{"0": ["n01440764", "tench"]}`, `["a", "b"]`, `{"a": 1}`} {
		f.Add([]byte(text), false)
	}
	f.Fuzz(func(t *testing.T, b []byte, isJSON bool) {
		labels, err := parseLabels(b, isJSON)
		if (err == nil) != (len(labels) > 0) || len(labels) > len(b)+maxLabels {
			t.Errorf("%d labels, %v", len(labels), err)
		}
		cutIDs(labels)
	})
}

// The file lies in assets or beside saved_model.pb. Ids are replaced by words, and the offset
// counts.
func TestReadLabels(t *testing.T) {
	const synsets = "n01440764\nn01443537\n"
	for _, test := range []struct {
		name  string
		files map[string]string
		from  Labels
		want  []string
		err   string // part of it; empty: none
	}{
		{"none", map[string]string{"assets/l": "a"}, Labels{}, nil, ""},
		{"in assets", map[string]string{"assets/l": "a\nb", "l": "x\ny"}, Labels{File: "l"}, []string{"a", "b"}, ""},
		{"beside", map[string]string{"l": "0 x\n1 y", "assets/other": ""}, Labels{File: "l"}, []string{"x", "y"}, ""},
		{"missing", nil, Labels{File: "l"}, nil, "labels: stat DIR/assets/l: no such file"},
		{"a mark before it", map[string]string{"l": "\ufeffa\r\nb"}, Labels{File: "l"}, []string{"a", "b"}, ""},
		{"a mark before JSON", map[string]string{"l.json": "\ufeff[\"a\"]"}, Labels{File: "l.json"}, []string{"a"}, ""},
		{"UTF-16", map[string]string{"l": "\xff\xfea\x00\n\x00"}, Labels{File: "l"}, nil, "DIR/l is not UTF-8"},
		{"what is wrong", map[string]string{"l": "a\n\nb"}, Labels{File: "l"}, nil, "labels: DIR/l: line 2 is empty"},

		{"background", map[string]string{"l": "a\nb"}, Labels{File: "l", Offset: 1}, []string{"", "a", "b"}, ""},
		{"its line dropped", map[string]string{"l": "background\na\nb"}, Labels{File: "l", Offset: -1}, []string{"a", "b"}, ""},
		{"numbered and background", map[string]string{"l": "0 a\n1 b"}, Labels{File: "l", Offset: 1}, []string{"", "a", "b"}, ""},
		{"numbered by JSON, and 1 is the first class", map[string]string{"l": `{"1": "a", "2": "b"}`}, Labels{File: "l", Offset: -1}, []string{"a", "b"}, ""},
		{"all dropped", map[string]string{"l": "a\nb"}, Labels{File: "l", Offset: -2}, nil, "labels: DIR/l: an offset of -2 leaves none of its 2 labels"},
		{"more dropped than there are", map[string]string{"l": "a\nb"}, Labels{File: "l", Offset: -9}, nil, "leaves none"},

		{"ids and words", map[string]string{"l": "n01440764 tench, Tinca tinca\nn01443537\tgoldfish"}, Labels{File: "l"}, []string{"tench, Tinca tinca", "goldfish"}, ""},
		{"ids and words after a background", map[string]string{"l": "background\nn01440764 tench"}, Labels{File: "l"}, []string{"background", "tench"}, ""},
		{"numbers, ids and words", map[string]string{"l": "0 n01440764 tench\n1 n01443537 goldfish"}, Labels{File: "l"}, []string{"tench", "goldfish"}, ""},
		{"some ids", map[string]string{"l": "cat\nn01443537 goldfish\ndog"}, Labels{File: "l"}, []string{"cat", "n01443537 goldfish", "dog"}, ""},
		{"ids alone", map[string]string{"l": synsets}, Labels{File: "l"}, []string{"n01440764", "n01443537"}, ""},
		{"like an id", map[string]string{"l": "n0144076 x\nn01440764x"}, Labels{File: "l"}, []string{"n0144076 x", "n01440764x"}, ""},
		{
			"names", map[string]string{"assets/synsets.txt": "background\n" + synsets, "assets/metadata.txt": "n01443537\tgoldfish, Carassius auratus\r\nn00000001\tother\nn01440764\ttench\n"},
			Labels{File: "synsets.txt", Names: "metadata.txt"}, []string{"background", "tench", "goldfish, Carassius auratus"}, "",
		},
		{
			"names and background", map[string]string{"assets/s": synsets, "m": "n01443537 goldfish\nn01440764 tench"},
			Labels{File: "s", Offset: 1, Names: "m"}, []string{"", "tench", "goldfish"}, "",
		},
		{"names without one", map[string]string{"l": synsets, "m": "n01440764\ttench"}, Labels{File: "l", Names: "m"}, nil, "labels: DIR/m: it has no line for n01443537, the label of class 1"},
		{"names of another form", map[string]string{"l": synsets, "m": "n01440764\ttench\ngoldfish"}, Labels{File: "l", Names: "m"}, nil, "labels: DIR/m: line 2 is not a WordNet id and words"},
		{"names missing", map[string]string{"l": synsets}, Labels{File: "l", Names: "m"}, nil, "labels: stat DIR/assets/m: no such file"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, text := range test.files {
				modeltest.Write(t, filepath.Join(dir, name), []byte(text))
			}
			got, err := readLabels(dir, test.from)
			if test.err == "" && err != nil || test.err != "" && (err == nil || !strings.Contains(strings.ReplaceAll(err.Error(), dir, "DIR"), test.err)) || !slices.Equal(got, test.want) {
				t.Errorf("got %q, %v\nwant %q, %s", got, err, test.want, test.err)
			}
		})
	}
}

// The key labels has two forms.
func TestLabelsYAML(t *testing.T) {
	for _, test := range []struct {
		yaml string
		want Labels
		err  string // part of it; empty: none
	}{
		{"", Labels{File: "labels.txt"}, ""},
		{"labels:\n", Labels{File: "labels.txt"}, ""},
		{"labels: ''\n", Labels{}, ""},
		{"labels: l.txt\n", Labels{File: "l.txt"}, ""},
		{"labels: {file: a/l.txt, offset: -1, names: m}\n", Labels{"a/l.txt", -1, "m"}, ""},
		{"labels: &l {file: x}\ntop_k: 1\n", Labels{File: "x"}, ""},
		{"top_k: 1\nlabels: {offset: 1}\n", Labels{}, "line 2: labels: want the name of a file, or {file: FILE, offset: N, names: FILE}"},
		{"labels: {file: l, offset: one}\n", Labels{}, "line 1: labels.offset: one is not a whole number"},
		{"labels: {file: l, offset: 99999999999999999999}\n", Labels{}, "is not a whole number"},
		{"labels: {file: l, offset: 1048577}\n", Labels{}, "line 1: labels.offset: 1048577 is not between -1048576 and 1048576"},
		{"labels: {file: l, name: x}\n", Labels{}, "line 1: labels: want"},
		{"labels: [l]\n", Labels{}, "line 1: labels: want"},
		{"labels: {file: [l]}\n", Labels{}, "line 1: labels: want"},
		{"labels: ../l\n", Labels{}, `line 1: labels: "../l" is not a file in assets`},
		{"labels: {file: l, names: /etc/passwd}\n", Labels{}, `line 1: labels.names: "/etc/passwd" is not a file in assets`},
	} {
		dir := t.TempDir()
		modeltest.Write(t, filepath.Join(dir, SpecFile), []byte(test.yaml))
		modeltest.Write(t, filepath.Join(dir, "labels.txt"), []byte("a"))
		spec, err := readSpec(dir)
		if test.err == "" && (err != nil || spec.Labels != test.want) || test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)) {
			t.Errorf("%q: got %+v, %v\nwant %+v, %s", test.yaml, spec.Labels, err, test.want, test.err)
		}
		if err == nil && test.want.File != "" {
			again := t.TempDir()
			modeltest.Write(t, filepath.Join(again, SpecFile), []byte(test.want.yamlLine()))
			if spec, err := readSpec(again); err != nil || spec.Labels != test.want {
				t.Errorf("%s is read as %+v, %v", test.want.yamlLine(), spec.Labels, err)
			}
		}
	}
}

// For the usual mistakes, a refusal names the line to write.
func TestLabelsMend(t *testing.T) {
	write := func(line string) string { return fmt.Sprintf("write %q", line) }
	names := Labels{File: "l.txt", Offset: 1, Names: "m"}
	for _, test := range []struct {
		from Labels
		err  error
		want string
	}{
		{Labels{File: "l.txt"}, checkLabels(1000, 1001), `labels: 1000 labels for 1001 classes: the file needs a label for each class; if the first class is the background, write "labels: {file: l.txt, offset: 1}"`},
		{Labels{File: "l.txt"}, checkLabels(1001, 1000), `as strings or int64 of the scores' shape; if the first label is for the background, which is not a class of the model, write "labels: {file: l.txt, offset: -1}"`},
		{names, checkLabels(1001, 1000), `write "labels: {file: l.txt, names: m}"`},
		{names, checkLabels(1001, 1002), `write "labels: {file: l.txt, offset: 2, names: m}"`},
		{Labels{File: "l.txt"}, checkLabels(3, 10), `labels: 3 labels for 10 classes: the file needs a label for each class; for answers without labels, write "labels: ''"`},
		{Labels{File: "l.txt"}, checkLabels(20, 5), `as strings or int64 of the scores' shape`},
		{Labels{File: "l.txt"}, checkIndices(3, []Class{{Index: 3}}), `labels: the model answers with class 3, and the 3 labels are for the classes from 0; if the first class is the background, write "labels: {file: l.txt, offset: 1}"`},
		{Labels{File: "l.txt"}, os.ErrClosed, "file already closed"},
	} {
		got := test.from.addHint(test.err, write)
		if !strings.HasSuffix(got.Error(), test.want) || !errors.Is(got, test.err) {
			t.Errorf("got %v\nwant %s", got, test.want)
		}
	}
}
