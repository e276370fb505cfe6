import { mkdirSync, readdirSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { basename, dirname, join, relative, resolve } from 'node:path'
import { build, type Plugin } from 'esbuild'

/**
 * Bundles the CLI to packages/cli/dist/roost.mjs and a chunk for each command, so that it starts at once. What raises
 * hosts starts programs by their path in the checkout and loads native code; it stays as it is and is loaded from there.
 */
const root = join(import.meta.dirname, '..')
const source = join(root, 'packages/cli/src')
const target = join(root, 'packages/cli/dist')
const FROM_SOURCE = /^(host|playground|mirror)\//
/** Modules without effects of their own: what nobody uses of them is left out, with all that it would import. */
const PURE = /\/packages\/(core|api|base)\/src\//
const STALE_MS = 3_600_000

const fromSource: Plugin = {
  name: 'from-source',
  setup(bundle) {
    bundle.onResolve({ filter: /^\.{1,2}\/.*\.ts$/ }, ({ path, resolveDir, importer }) => {
      const file = resolve(resolveDir, path)
      if (PURE.test(file)) return { path: file, sideEffects: false }
      const loaded = FROM_SOURCE.test(relative(source, file))
      if (!loaded || FROM_SOURCE.test(relative(source, importer))) return null
      return { path: `./${relative(target, file)}`, external: true }
    })
    bundle.onResolve({ filter: /^@roost\// }, ({ path }) => ({
      path: join(root, 'packages', path.replace('@roost/', ''), 'src/index.ts'),
      sideEffects: false,
    }))
  },
}

const result = await build({
  entryPoints: { roost: join(source, 'main.ts') },
  outdir: target,
  outExtension: { '.js': '.mjs' },
  chunkNames: 'chunk-[hash]',
  bundle: true,
  splitting: true,
  format: 'esm',
  platform: 'node',
  target: 'node24',
  minify: true,
  write: false,
  external: ['koffi'],
  plugins: [fromSource],
  banner: {
    // CommonJS dependencies ask for Node's own modules by require.
    js: `import{createRequire as __createRequire}from'node:module';const require=__createRequire(import.meta.url);`,
  },
  logLevel: 'warning',
})

mkdirSync(target, { recursive: true })
// The entry last: whoever starts meanwhile gets the old one or the new one, each with its chunks.
const files = [...result.outputFiles].sort(
  (a, b) => Number(isEntry(a.path)) - Number(isEntry(b.path)),
)
for (const { path, contents } of files) {
  writeFileSync(`${path}.draft`, contents)
  renameSync(`${path}.draft`, path)
}
const current = new Set(files.map(({ path }) => basename(path)))
for (const name of readdirSync(target)) {
  const path = join(target, name)
  const stale = /^chunk-.*\.mjs$/.test(name) && !current.has(name)
  if (stale && Date.now() - statSync(path).mtimeMs > STALE_MS) rmSync(path)
}

function isEntry(path: string): boolean {
  return basename(path) === 'roost.mjs' && dirname(path) === target
}
