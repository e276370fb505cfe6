import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join, relative } from 'node:path'
import { expect, test } from 'vitest'
import { ERRORS } from '../packages/api/src/errors.ts'

/** The architecture, run as a test: which room may import which, what core may not touch, names that are refused. */
const ROOT = join(import.meta.dirname, '..')
const MAY_IMPORT: Record<string, readonly string[]> = {
  core: [],
  api: ['core'],
  base: ['core'],
  server: ['core', 'api', 'base'],
  agent: ['core', 'api', 'base'],
  edge: ['core', 'api', 'base'],
  cli: ['core', 'api', 'base'],
  web: ['core', 'api'],
}
const REFUSED_NAMES = /^(utils?|helpers?|common|lib|shared|types|interfaces|managers?)(\.ts)?$/

function filesUnder(folder: string): string[] {
  return readdirSync(folder).flatMap((name) => {
    const path = join(folder, name)
    if (name === 'node_modules' || name === 'dist' || name === 'generated') return []
    return statSync(path).isDirectory() ? filesUnder(path) : [path]
  })
}

/** Every form of import: `from 'x'`, `import 'x'`, `import('x')`. */
function importsOf(text: string): string[] {
  return [...text.matchAll(/(?:from\s+|import\s+|import\s*\(\s*)['"]([^'"]+)['"]/g)].map(
    (m) => m[1] ?? '',
  )
}

const sources = filesUnder(join(ROOT, 'packages'))
  .filter((path) => path.endsWith('.ts') || path.endsWith('.tsx'))
  .map((path) => ({
    path: relative(ROOT, path),
    room: relative(join(ROOT, 'packages'), path).split('/')[0] ?? '',
    text: readFileSync(path, 'utf8'),
  }))
const isTest = (path: string) => /\.(test|conformance)\.ts$/.test(path)

test('rooms import only what the table allows, and only through the door', () => {
  const wrong = sources.flatMap(({ path, room, text }) =>
    importsOf(text).flatMap((name) => {
      const target = /^@roost\/([a-z]+)(\/.*)?$/.exec(name)
      if (target) {
        const allowed = MAY_IMPORT[room]?.includes(target[1] ?? '') && target[2] === undefined
        return allowed ? [] : [`${path}: ${name}`]
      }
      const up = name.startsWith('.') && !join(path, '..', name).startsWith(`packages/${room}/`)
      return up ? [`${path}: ${name}`] : []
    }),
  )
  expect(wrong).toEqual([])
})

test('core imports nothing foreign and has neither clock, chance, promise nor output', () => {
  const wrong = sources
    .filter(({ room, path }) => room === 'core' && !isTest(path))
    .flatMap(({ path, text }) => [
      ...importsOf(text)
        .filter((name) => !name.startsWith('.'))
        .map((name) => `${path}: ${name}`),
      ...[
        ...text.matchAll(
          /\b(Date\.now|new Date\(\)|Math\.random|Promise|async |await |console\.|(?<!\.)process\.)/g,
        ),
      ].map((m) => `${path}: ${m[1]}`),
    ])
  expect(wrong).toEqual([])
})

test('no variable at module level can change', () => {
  const wrong = sources
    .filter(({ path }) => !isTest(path))
    .flatMap(({ path, text }) =>
      text
        .split('\n')
        .flatMap((line, n) => (/^(export )?(let|var) /.test(line) ? [`${path}:${n + 1}`] : [])),
    )
  expect(wrong).toEqual([])
})

test('files and folders have names that a user would say', () => {
  const wrong = sources.flatMap(({ path }) =>
    path
      .split('/')
      .filter((part) => REFUSED_NAMES.test(part))
      .map((part) => `${path}: ${part}`),
  )
  expect(wrong).toEqual([])
})

test('every test stands beside the file that it tests', () => {
  const paths = new Set(sources.map(({ path }) => path))
  const wrong = sources
    .filter(({ path }) => /\.test\.ts$/.test(path))
    .filter(({ path }) => {
      const stem = path.replace(/(\.integration|\.soak)?\.test\.ts$/, '')
      return !paths.has(`${stem}.ts`) && !sources.some((s) => s.path.startsWith(`${stem}/`))
    })
    .map(({ path }) => path)
  expect(wrong).toEqual([])
})

test('every room is named in ARCHITECTURE.md', () => {
  const map = readFileSync(join(ROOT, 'ARCHITECTURE.md'), 'utf8')
  expect(Object.keys(MAY_IMPORT).filter((room) => !map.includes(`packages/${room}`))).toEqual([])
})

test('every error code is explained in the docs', () => {
  const page = readFileSync(join(ROOT, 'docs/reference/errors.md'), 'utf8')
  const missing = Object.entries(ERRORS).filter(
    ([code, { status, meaning }]) => !page.includes(`| \`${code}\` | ${status} | ${meaning} |`),
  )
  expect(missing).toEqual([])
})
