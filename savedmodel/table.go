package savedmodel

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"inceptor/savedmodel/tfpb"
)

const (
	// maxTable bounds the elements of all tables that constants of the graph fill.
	maxTable = 1 << 22
	// maxTableFile bounds the file that a table is read from, in bytes.
	maxTableFile = 64 << 20
)

// isTable says whether an operation is a lookup table that is filled once.
func isTable(op string) bool { return op == "HashTable" || op == "HashTableV2" }

// tableFillers are the operations that fill a table, which is their first input.
var tableFillers = map[string]bool{
	"InitializeTable": true, "InitializeTableV2": true, "LookupTableImportV2": true,
	"InitializeTableFromTextFile": true, "InitializeTableFromTextFileV2": true,
}

// bindTables adds the operations that fill the signatures' tables when the model starts.
func (g *frozenGraph) bindTables() error {
	filled := make(map[string]bool) // by tableName
	for _, n := range g.nodes {
		if isTable(n.GetOp()) {
			filled[tableName(n)] = false
		}
	}
	if len(filled) == 0 {
		return nil
	}
	start, err := startGraph(g.meta, g.ops, g.budget)
	if err != nil {
		return err
	}
	f := filling{frozenGraph: g, start: start, files: assetsOf(g.meta), left: maxTable, seen: make(map[string]bool)}
	for _, name := range start.order {
		n := start.nodes[name]
		if len(n.GetInput()) == 0 {
			continue
		}
		table := start.nodes[start.source(n.GetInput()[0])]
		if _, ok := filled[tableName(table)]; !ok || !isTable(table.GetOp()) || readers[n.GetOp()] || n.GetOp() == "Identity" {
			continue
		}
		if !tableFillers[n.GetOp()] {
			return notOptimized("%q (%s) changes the table %q when the model starts", name, n.GetOp(), table.GetName())
		}
		if err := f.add(n); err != nil {
			return err
		}
		filled[tableName(table)] = true
	}
	for _, name := range g.order {
		if n := g.nodes[name]; isTable(n.GetOp()) && !filled[tableName(n)] {
			return notOptimized("nothing fills the table %q when the model starts", name)
		}
	}
	return nil
}

// tableName identifies a table. Two operations with the same name are one table.
func tableName(n *tfpb.NodeDef) string {
	shared := string(n.GetAttr()["shared_name"].GetS())
	if shared == "" {
		shared = n.GetName()
		if !n.GetAttr()["use_node_name_sharing"].GetB() {
			return "\x00" + shared // not shared with any other operation
		}
	}
	return string(n.GetAttr()["container"].GetS()) + "\x00" + shared
}

// assetsOf returns the model's asset files, by the node that holds the file's path.
func assetsOf(mg *tfpb.MetaGraphDef) map[string]string {
	files := slices.Clone(mg.GetAssetFileDef())
	if len(files) == 0 { // TensorFlow 1 keeps them in a collection
		for _, v := range mg.GetCollectionDef()["saved_model_assets"].GetAnyList().GetValue() {
			var file tfpb.AssetFileDef
			if proto.Unmarshal(v.GetValue(), &file) == nil {
				files = append(files, &file)
			}
		}
	}
	assets := make(map[string]string, len(files))
	for _, f := range files {
		assets[nodeOf(f.GetTensorInfo().GetName())] = f.GetFilename()
	}
	return assets
}

// A filling copies the operations that fill tables into a frozen graph.
type filling struct {
	*frozenGraph
	start *flatGraph        // what runs when the model starts
	files map[string]string // see assetsOf
	left  int64             // of maxTable
	seen  map[string]bool   // nodes already copied
}

// add adds an operation that fills a table.
func (f *filling) add(n *tfpb.NodeDef) error {
	inputs := slices.DeleteFunc(slices.Clone(n.GetInput()), isControl)
	if strings.HasPrefix(n.GetOp(), "InitializeTableFromTextFile") {
		if len(inputs) != 2 {
			return notOptimized("%q has %d inputs", n.GetName(), len(inputs))
		}
		file := f.start.source(inputs[1])
		asset, ok := f.files[file]
		if !ok {
			return notOptimized("%q reads a file that is not one of the model's", n.GetName())
		}
		if err := f.addAsset(file, asset); err != nil {
			return err
		}
		inputs[1] = file
	}
	filler := cloneNode(n)
	filler.Input = inputs
	if err := f.copyNode(filler); err != nil {
		return err
	}
	f.initializers = append(f.initializers, filler.GetName())
	f.roots = append(f.roots, filler.GetName())
	for _, in := range inputs {
		if err := f.copyInput(in, maxCallDepth); err != nil {
			return err
		}
	}
	return nil
}

// addAsset checks an asset file and records its path for the node that holds it.
func (f *filling) addAsset(node, file string) error {
	local := filepath.FromSlash(file)
	if !filepath.IsLocal(local) {
		return notOptimized("the asset %q is outside %s", file, assetsDir)
	}
	path := filepath.Join(f.values.dir, assetsDir, local)
	st, err := os.Stat(path)
	switch {
	case err != nil:
		return err
	case !st.Mode().IsRegular():
		return notOptimized("the asset %q is not a file", file)
	case st.Size() > maxTableFile:
		return notOptimized("the asset %q has %d bytes, the limit is %d", file, st.Size(), maxTableFile)
	}
	if f.fed[node] {
		return notOptimized("a signature's input is %q, the path of an asset", node)
	}
	f.assets[node] = path
	return nil
}

// copyInput copies the operations that compute a tensor of f.start. It refuses tensors that are
// large or do not come from constants alone.
func (f *filling) copyInput(tensor string, depth int) error {
	n := f.start.nodes[nodeOf(tensor)]
	if f.seen[n.GetName()] {
		return nil
	}
	f.seen[n.GetName()] = true
	switch op := n.GetOp(); {
	case depth == 0 || n == nil:
		return notOptimized("it is not clear what fills a table with %q", tensor)
	case isTable(op), f.assets[n.GetName()] != "":
	case op == "Const":
		if !f.allow(shapeOf(n.GetAttr()["value"].GetTensor().GetTensorShape()).Elements()) {
			return notOptimized("tables have more than %d elements", maxTable)
		}
	case op == "Range":
		if !f.allow(f.rangeOf(n)) {
			return notOptimized("tables may have more than %d elements", maxTable)
		}
	case op == "Size" || op == "Cast" || op == "Identity":
	default:
		return notOptimized("%q (%s) fills a table", n.GetName(), op)
	}
	plain := cloneNode(n)
	plain.Input = slices.DeleteFunc(plain.Input, isControl)
	if err := f.copyNode(plain); err != nil {
		return err
	}
	for _, in := range plain.GetInput() {
		if err := f.copyInput(in, depth-1); err != nil {
			return err
		}
	}
	return nil
}

// allow takes count elements from f.left. It returns false if there are not so many left.
func (f *filling) allow(count int64, ok bool) bool {
	if !ok || count > f.left {
		return false
	}
	f.left -= count
	return true
}

// copyNode adds a node, unless the graph has it.
func (f *filling) copyNode(n *tfpb.NodeDef) error {
	if f.nodes[n.GetName()] != nil {
		return nil
	}
	return f.insert(n)
}

// rangeOf returns how many elements a Range has, if that is known.
func (f *filling) rangeOf(n *tfpb.NodeDef) (int64, bool) {
	var v [3]int64 // start, limit, delta
	if len(n.GetInput()) < len(v) {
		return 0, false
	}
	for i := range v {
		var ok bool
		in := n.GetInput()[i]
		if size := f.start.nodes[in]; size.GetOp() == "Size" && len(size.GetInput()) > 0 {
			of := f.start.nodes[size.GetInput()[0]]
			v[i], ok = shapeOf(of.GetAttr()["value"].GetTensor().GetTensorShape()).Elements()
			ok = ok && of.GetOp() == "Const"
		} else {
			v[i], ok = f.start.intOf(in)
		}
		if !ok || v[i] < -maxTable || v[i] > maxTable {
			return 0, false
		}
	}
	if v[2] == 0 {
		return 0, false
	}
	return max(0, (v[1]-v[0])/v[2]+1), true
}

func isControl(input string) bool { return strings.HasPrefix(input, "^") }
