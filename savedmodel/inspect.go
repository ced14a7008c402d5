package savedmodel

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"inceptor/savedmodel/tfpb"
)

// Names in a version's directory, as in TensorFlow (tensorflow/cc/saved_model/constants.h) and
// TensorFlow Serving.
const (
	graphFile = "saved_model.pb"
	assetsDir = "assets"
	extraDir  = "assets.extra"
)

// An Info describes a SavedModel, as read from its files.
type Info struct {
	Dir string `json:"dir"`
	// Complete says that no byte is missing: saved_model.pb is whole, every shard that the
	// variables' index names has exactly the size that the index says, every asset that a graph
	// names exists, and the warm-up file, if any, ends with a whole record. Otherwise Missing says
	// what each file lacks.
	Complete bool     `json:"complete"`
	Missing  []string `json:"missing,omitempty"`
	// Digest is empty, because Inspect does not read the shards. Fill it from [Digest].
	Digest string `json:"digest,omitempty"`

	GraphBytes    int64       `json:"graph_bytes"` // of saved_model.pb
	Graphs        []MetaGraph `json:"graphs"`
	Variables     []Variable  `json:"variables"`      // by Key
	VariableBytes int64       `json:"variable_bytes"` // of all variables' values
	Shards        []Shard     `json:"shards"`
	Assets        []Asset     `json:"assets"` // by Path
	Extra         []File      `json:"extra"`  // files in assets.extra, by Path
	Warmup        *Warmup     `json:"warmup,omitempty"`
}

// A MetaGraph describes one graph in saved_model.pb. Most files have one, with the tag "serve".
type MetaGraph struct {
	Tags       []string             `json:"tags"`
	TensorFlow string               `json:"tensorflow"` // the version that wrote it
	Nodes      int                  `json:"nodes"`      // of the main graph
	Functions  int                  `json:"functions"`
	Ops        []string             `json:"ops"` // types of operation, sorted; maybe none
	Signatures map[string]Signature `json:"signatures"`
}

// A Variable is a tensor in the variables' files.
type Variable struct {
	Name  string   `json:"name"` // in the program that wrote it, or else a shorter form of Key
	Key   string   `json:"key"`  // in the index
	DType DataType `json:"dtype"`
	Shape Shape    `json:"shape"`
	Bytes int64    `json:"bytes"` // of its value on disk
}

// A Shard is a file with values of variables.
type Shard struct {
	Path  string `json:"path"`
	Size  int64  `json:"size"`  // bytes on disk; -1 if the file does not exist
	Wants int64  `json:"wants"` // bytes that the index says it has
}

// An Asset is a file in the folder assets.
type Asset struct {
	File
	// Tensor gets the file's path at load. It is empty if no graph names the file.
	Tensor string `json:"tensor,omitempty"`
}

// Graph returns the graph that has exactly these tags.
func (i *Info) Graph(tags ...string) (MetaGraph, bool) {
	for _, g := range i.Graphs {
		if sameTags(g.Tags, tags) {
			return g, true
		}
	}
	return MetaGraph{}, false
}

// Inspect describes the SavedModel in dir, a version's directory. It does not need TensorFlow. It
// reads saved_model.pb, the variables' index, the warm-up file and a few bytes of the shards, in
// bounded memory.
//
// An error means that reading failed. A damaged version, or one that is still being copied, is not
// an error: the result then is not Complete and holds what could be read.
func Inspect(dir string) (*Info, error) {
	st, err := os.Stat(dir)
	if err != nil {
		return nil, fmt.Errorf("inspect: %w", err)
	}
	if !st.IsDir() {
		return nil, fmt.Errorf("inspect %s: %w", dir, syscall.ENOTDIR)
	}
	in := inspector{dir: dir, info: &Info{Dir: dir}}
	for _, step := range []func() error{in.graphs, in.variables, in.assets, in.extra, in.warmup} {
		if err := step(); err != nil {
			return nil, fmt.Errorf("inspect %s: %w", dir, err)
		}
	}
	in.info.Complete = len(in.info.Missing) == 0
	return in.info, nil
}

// An inspector fills an Info. Its methods return an error only if reading fails.
type inspector struct {
	dir    string
	info   *Info
	parsed []parsedGraph
}

func (in *inspector) missing(file, format string, args ...any) {
	in.info.Missing = append(in.info.Missing, printable(file)+": "+fmt.Sprintf(format, args...))
}

// contentError adds an error about a file's contents to Missing, and returns any other error.
func (in *inspector) contentError(file string, err error) error {
	if errors.Is(err, ErrMalformed) {
		in.missing(file, "%v", err)
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return nil
}

func (in *inspector) path(file string) string {
	return filepath.Join(in.dir, filepath.FromSlash(file))
}

func absent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

// size returns a regular file's size. It returns false if there is no such file.
func (in *inspector) size(file string) (int64, bool, error) {
	st, err := os.Stat(in.path(file))
	switch {
	case absent(err):
		return 0, false, nil
	case err != nil:
		return 0, false, err
	}
	return st.Size(), st.Mode().IsRegular(), nil
}

// read opens a file and calls use. It returns false if the file does not exist.
func (in *inspector) read(file string, use func(f *os.File, size int64) error) (found bool, err error) {
	size, ok, err := in.size(file)
	if err != nil || !ok {
		return false, err
	}
	f, err := os.Open(in.path(file))
	if absent(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	return true, in.contentError(file, use(f, size))
}

// otherFormats are other forms of saved_model.pb, each with the advice how to convert it.
var otherFormats = map[string]func(dir string) string{
	"saved_model.pbtxt": func(dir string) string {
		return "convert it, where Python has TensorFlow: cd " + shellWord(dir) + " && " + convertText
	},
	"saved_model.cpb": func(string) string { return "save it as " + graphFile },
}

// otherFormatAdvice says how to convert a model in another form. It is empty if dir has none.
func otherFormatAdvice(dir string) (advice string) {
	for _, file := range slices.Sorted(maps.Keys(otherFormats)) {
		if st, err := os.Stat(filepath.Join(dir, file)); err == nil && st.Mode().IsRegular() {
			advice += "; " + file + " does, which inceptor does not read: " + otherFormats[file](dir)
		}
	}
	return advice
}

// convertText is the command that writes saved_model.pb from saved_model.pbtxt.
const convertText = `python3 -c "from google.protobuf import text_format as t; from tensorflow.core.protobuf.saved_model_pb2 import SavedModel as S; ` +
	`open('saved_model.pb', 'wb').write(t.Parse(open('saved_model.pbtxt').read(), S()).SerializeToString())"`

var plainPath = regexp.MustCompile(`^[A-Za-z0-9_./-]+$`)

// shellWord quotes a path for a shell, if needed.
func shellWord(path string) string {
	if plainPath.MatchString(path) {
		return path
	}
	return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
}

func (in *inspector) graphs() error {
	found, err := in.read(graphFile, func(f *os.File, size int64) error {
		in.info.GraphBytes = size
		graphs, err := readGraphs(f, size)
		if err != nil {
			return err
		}
		if len(graphs) == 0 {
			return malformed(size, "the file has no graph")
		}
		in.parsed = graphs
		return nil
	})
	if err != nil {
		return err
	}
	if !found {
		in.missing(graphFile, "does not exist%s", otherFormatAdvice(in.dir))
	}
	for _, g := range in.parsed {
		meta := g.def.GetMetaInfoDef()
		in.info.Graphs = append(in.info.Graphs, MetaGraph{
			Tags:       meta.GetTags(),
			TensorFlow: meta.GetTensorflowVersion(),
			Nodes:      g.nodes,
			Functions:  g.functions,
			Ops:        opNames(meta.GetStrippedOpList()),
			Signatures: signaturesOf(g.def),
		})
	}
	return nil
}

func opNames(list *tfpb.OpList) []string {
	names := make([]string, 0, len(list.GetOp()))
	for _, op := range list.GetOp() {
		names = append(names, op.GetName())
	}
	slices.Sort(names)
	return names
}

func (in *inspector) variables() error {
	idx, err := in.index()
	if err != nil || idx == nil {
		return err
	}
	if err := in.shards(idx); err != nil {
		return err
	}
	names, err := in.names(idx)
	if err != nil {
		return err
	}
	for _, e := range idx.entries {
		if e.isSlice() || e.key == objectGraphKey {
			continue
		}
		v := Variable{Name: names[e.key], Key: e.key, DType: e.dtype, Shape: e.shape, Bytes: e.bytes()}
		if v.Name == "" {
			v.Name = plainName(e.key)
		}
		in.info.Variables = append(in.info.Variables, v)
		in.info.VariableBytes += min(v.Bytes, math.MaxInt64-in.info.VariableBytes)
	}
	return nil
}

// index reads the variables' index, nil if it does not exist or is damaged.
func (in *inspector) index() (*bundleIndex, error) {
	var idx *bundleIndex
	found, err := in.read(indexFile, func(f *os.File, size int64) error {
		if size > maxIndexBytes {
			return malformed(0, "%d bytes, the limit is %d", size, maxIndexBytes)
		}
		b := make([]byte, size)
		if n, err := io.ReadFull(f, b); errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return malformed(int64(n), "the file ends")
		} else if err != nil {
			return err
		}
		var err error
		idx, err = parseBundleIndex(b)
		return err
	})
	if err == nil && !found {
		in.checkVariablesPresent()
	}
	return idx, err
}

// shards compares the shards' sizes with those that the index says.
func (in *inspector) shards(idx *bundleIndex) error {
	wants := idx.shardSizes()
	for _, id := range slices.Sorted(maps.Keys(wants)) {
		s := Shard{Path: idx.shardFile(id), Wants: wants[id], Size: -1}
		size, ok, err := in.size(s.Path)
		switch {
		case err != nil:
			return err
		case !ok:
			in.missing(s.Path, "does not exist, wants %d bytes", s.Wants)
		case size != s.Wants:
			in.missing(s.Path, "has %d bytes, wants %d", size, s.Wants)
		}
		if ok {
			s.Size = size
		}
		in.info.Shards = append(in.info.Shards, s)
	}
	return nil
}

// checkVariablesPresent reports a missing index if a graph restores variables. TensorFlow would
// load such a model and fail on the first run.
func (in *inspector) checkVariablesPresent() {
	for _, g := range in.parsed {
		if g.variables && g.def.GetSaverDef().GetRestoreOpName() != "" {
			in.missing(indexFile, "does not exist, but the graph restores variables")
			return
		}
	}
}

// names reads the variables' names, by key, if the shard that holds them is whole.
func (in *inspector) names(idx *bundleIndex) (map[string]string, error) {
	i := slices.IndexFunc(idx.entries, func(e bundleEntry) bool { return e.key == objectGraphKey && !e.sliced })
	if i < 0 {
		return nil, nil
	}
	file := idx.shardFile(idx.entries[i].shard)
	for _, s := range in.info.Shards {
		if s.Path == file && s.Size != s.Wants {
			return nil, nil
		}
	}
	var names map[string]string
	_, err := in.read(file, func(f *os.File, _ int64) (err error) {
		names, err = variableNames(idx.entries[i], f)
		return err
	})
	return names, err
}

func (in *inspector) assets() error {
	tensors := make(map[string]string)
	for _, g := range in.parsed {
		for _, a := range g.def.GetAssetFileDef() {
			if err := in.asset(a, tensors); err != nil {
				return err
			}
		}
	}
	files, err := in.list(assetsDir)
	for _, f := range files {
		in.info.Assets = append(in.info.Assets, Asset{f, tensors[f.Path]})
	}
	return err
}

func (in *inspector) asset(a *tfpb.AssetFileDef, tensors map[string]string) error {
	name := path.Join(assetsDir, a.GetFilename())
	if _, ok := tensors[name]; ok {
		return nil
	}
	tensors[name] = a.GetTensorInfo().GetName()
	if !filepath.IsLocal(filepath.FromSlash(a.GetFilename())) {
		in.missing(graphFile, "%v: asset %q is outside %s", ErrMalformed, a.GetFilename(), assetsDir)
		return nil
	}
	_, ok, err := in.size(name)
	if err == nil && !ok {
		in.missing(name, "does not exist, but a graph names it")
	}
	return err
}

func (in *inspector) extra() (err error) {
	in.info.Extra, err = in.list(extraDir)
	return err
}

func (in *inspector) list(folder string) ([]File, error) {
	files, err := listFiles(in.dir, folder)
	if absent(err) { // the folder does not exist, or a file vanished meanwhile
		return nil, nil
	}
	return files, err
}
