import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { build, type Plugin } from 'esbuild'

/**
 * Bundles server, agent and edge to packages/<room>/dist/<room>.mjs, each with the thread that watches it. From one file of plain
 * JavaScript, of which nothing is loaded that is not used, a program takes about half the memory that it takes from its sources.
 * Files that a program reads stay where they are in the checkout.
 */
const root = join(import.meta.dirname, '..')
const PURE = /\/packages\/(core|api|base)\/src\//

for (const room of ['server', 'agent', 'edge']) {
  const target = join(root, 'packages', room, 'dist')
  const result = await build({
    entryPoints: {
      'watchdog-thread': join(root, 'packages/base/src/watchdog-thread.ts'),
      [room]: join(root, 'packages', room, 'src/main.ts'),
    },
    outdir: target,
    outExtension: { '.js': '.mjs' },
    bundle: true,
    format: 'esm',
    platform: 'node',
    target: 'node24',
    // Names stay, for stacks in logs.
    minifyWhitespace: true,
    minifySyntax: true,
    write: false,
    plugins: [fromItsFolder(target)],
    banner: {
      // CommonJS dependencies ask for Node's own modules by require.
      js: `import{createRequire as __createRequire}from'node:module';const require=__createRequire(import.meta.url);`,
    },
    logLevel: 'warning',
  })
  mkdirSync(target, { recursive: true })
  for (const { path, contents } of result.outputFiles) {
    writeFileSync(`${path}.draft`, contents)
    renameSync(`${path}.draft`, path)
  }
}

/** What a module finds beside itself it finds there from within the bundle too. */
function fromItsFolder(target: string): Plugin {
  return {
    name: 'from-its-folder',
    setup(bundle) {
      bundle.onResolve({ filter: /^@roost\// }, ({ path }) => ({
        path: join(root, 'packages', path.replace('@roost/', ''), 'src/index.ts'),
        sideEffects: false,
      }))
      bundle.onResolve({ filter: /^\.{1,2}\/.*\.ts$/ }, ({ path, resolveDir }) => {
        const file = join(resolveDir, path)
        return PURE.test(file) ? { path: file, sideEffects: false } : null
      })
      bundle.onLoad({ filter: /\/packages\/\w+\/src\/.*\.ts$/ }, ({ path }) => {
        const text = readFileSync(path, 'utf8')
        const folder = relative(target, dirname(path))
        const contents = text.replaceAll(
          'import.meta.dirname',
          `(import.meta.dirname + '/${folder}')`,
        )
        return { contents, loader: 'ts' }
      })
    },
  }
}
