import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { type Pack, pack } from 'tar-stream'
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest'
import {
  createRegistryClient,
  readBody,
  registryTokenFor,
} from '../../packages/cli/src/mirror/registry-client.ts'
import { leftovers } from './leftovers.ts'
import { destroyAllApps, NAME, PLAYGROUND, REGIONS } from './playground.ts'
import { eventually, type Playground, ROOT, run, terminal } from './terminal.ts'

/**
 * Every kind of bad input, typed as a person would: one clear message with what mends it, an exit code that means
 * something (docs/reference/exit-codes.md), and nothing left behind.
 */
const DATA = `/var/lib/roost/playground/${NAME}/ams`

const home = mkdtempSync(join(tmpdir(), 'roost-bad-'))
const temp = join(home, 'tmp')
mkdirSync(temp)
const own = terminal(inject('home'))
const { ok, json } = own
let playground: Playground
let token = ''
let ca = ''

const DEBIAN = 'FROM debian:bookworm-slim\n'
const program = (...words: string[]) => `${DEBIAN}CMD ${JSON.stringify(words)}\n`
const node = (script: string) =>
  `FROM node:22-slim\nCMD ${JSON.stringify(['node', '-e', script])}\n`
const listens = (...where: (number | string)[]) =>
  node(
    `require('http').createServer((q, r) => r.end('ok')).listen(${JSON.stringify(where).slice(1, -1)})`,
  )
const TOML = 'app = "steady"\nprimary_region = "ams"\n[http_service]\ninternal_port = 8080\n'

interface Row {
  /** A shell's line: `roost` is the real one; `$URL`, `$TOKEN` and `$CA` are those of the playground. */
  readonly types: string
  readonly files?: Readonly<Record<string, string | Buffer>>
  readonly prepare?: (folder: string) => unknown
  readonly env?: Readonly<Record<string, string>>
  readonly ends: number
  /** The important words, in the order of the message. */
  readonly says: readonly (string | RegExp)[]
  /** Default 20 s, of which nearly all is a machine under load: what can't work is told at once. */
  readonly withinMs?: number
}

/** What is wrong with a folder, a file or a command line: nobody is asked. */
const WITHOUT_SERVER: Readonly<Record<string, Row>> = {
  'broken TOML': {
    types: 'roost deploy',
    files: { 'fly.toml': 'app = "steady"\n[http_service\ninternal_port = 8080\n' },
    ends: 2,
    says: ['fly.toml has a mistake', 'fly.toml:2:', '2 | [http_service', '^'],
  },
  'unknown key': {
    types: 'roost deploy',
    files: { 'fly.toml': 'app = "steady"\n[http_service]\n  internl_port = 8080\n' },
    ends: 2,
    says: ['fly.toml:3:3: unknown key', 'did you mean internal_port?', '3 |   internl_port', '^'],
  },
  'wrong types in fly.toml, all at once': {
    types: 'roost deploy',
    files: { 'fly.toml': 'app = 7\n[http_service]\ninternal_port = "many"\nforce_https = "x"\n' },
    ends: 2,
    says: [
      '3 mistakes',
      'app is a string, not 7',
      'internal_port is a whole number from 1 to 65535, not "many"',
      'force_https is true or false, not "x"',
    ],
  },
  'fly.toml that is no text': {
    types: 'roost deploy',
    files: { 'fly.toml': Buffer.from('app = "steady"\nx = "\xff\xfe"\n', 'latin1') },
    ends: 2,
    says: ['fly.toml is not text in UTF-8: line 2', 'iconv'],
  },
  'fly.toml that is a folder': {
    types: 'roost deploy',
    files: { 'fly.toml/x': '' },
    ends: 2,
    says: ['fly.toml is no file'],
  },
  'no Dockerfile': {
    types: 'roost launch --yes',
    ends: 2,
    says: ['there is no Dockerfile in', '--dockerfile FILE'],
  },
  'empty Dockerfile': {
    types: 'roost launch --yes',
    files: { Dockerfile: '# nothing yet\n\n' },
    ends: 2,
    says: ['Dockerfile is empty', 'FROM node:22-slim'],
  },
  'Dockerfile that is a folder': {
    types: 'roost launch --yes',
    files: { 'Dockerfile/web': DEBIAN },
    ends: 2,
    says: ['Dockerfile is a folder', '--dockerfile Dockerfile/Dockerfile'],
  },
  'Dockerfile that is not UTF-8': {
    types: 'roost launch --yes',
    files: { Dockerfile: Buffer.from('FROM a\n# caf\xe9\n', 'latin1') },
    ends: 2,
    says: ['Dockerfile is not text in UTF-8: line 2'],
  },
  'Dockerfile that is too large': {
    types: 'roost launch --yes',
    files: { Dockerfile: `FROM a\n${'# x\n'.repeat(300_000)}` },
    ends: 2,
    says: ['Dockerfile is 1.2 MB long: at most 1.0 MB'],
  },
  'secret without =': {
    types: 'roost secrets set KEY -a steady',
    ends: 2,
    says: ['a secret looks like NAME=VALUE', 'roost secrets set NAME=VALUE'],
  },
  'empty secret': {
    types: 'roost secrets set KEY=$UNSET_VARIABLE -a steady',
    ends: 2,
    says: ['the value of KEY is empty', 'roost secrets unset KEY'],
  },
  'secret with a NUL byte': {
    types: "printf 'a\\0b' | roost secrets set KEY=- -a steady",
    ends: 2,
    says: ['the value of KEY has a NUL byte', 'base64'],
  },
  'secret that is too large': {
    types: 'head -c 200000 /dev/zero | tr "\\0" x | roost secrets set KEY=- -a steady',
    ends: 2,
    says: ['the value of KEY is longer than 100000 bytes'],
  },
  'name of a secret that is none': {
    types: 'roost secrets set 1-KEY=x -a steady',
    ends: 2,
    says: ['"1-KEY" can\'t be the name of a secret'],
  },
  'name of an app that is none': {
    types: 'roost apps create My_Shop',
    ends: 2,
    says: ['"My_Shop" can\'t be the name of an app: lower-case letters'],
  },
  'unknown command': {
    types: 'roost depoly',
    ends: 2,
    says: ['there is no command "depoly"', 'Try: roost deploy'],
  },
  'unknown flag': {
    types: 'roost deploy --buildarg A=1',
    ends: 2,
    says: ["unknown option '--buildarg'", 'Did you mean --build-arg?', 'roost deploy --help'],
  },
  'missing argument': {
    types: 'roost machine stop',
    ends: 2,
    says: ["missing required argument 'id'", 'roost machine stop --help'],
  },
  'questions without a terminal': {
    types: 'roost launch < /dev/null',
    files: { Dockerfile: DEBIAN },
    ends: 2,
    says: ['there is no terminal to ask', 'roost launch --yes'],
  },
  'a reader that has enough': {
    types: 'set -o pipefail; roost deploy --help | head -1',
    ends: 0,
    says: [/^Usage: roost deploy.*\n$/],
  },
  'a terminal of twenty columns': {
    types: `script -qec 'stty cols 20; roost apps list' /dev/null`,
    ends: 0,
    says: ['NAME', 'steady'],
  },
  'a link out of the folder': {
    types: 'roost deploy',
    files: { 'fly.toml': TOML, Dockerfile: DEBIAN, 'venv/bin/x': '' },
    prepare: (folder) => symlinkSync('/usr/bin/python3', join(folder, 'venv/bin/python')),
    ends: 2,
    says: ['venv/bin/python is a link to /usr/bin/python3', 'echo venv >> .dockerignore'],
  },
  'too large a folder': {
    types: 'truncate -s 9G data.bin; roost deploy; code=$?; rm data.bin; exit $code',
    files: { 'fly.toml': TOML, Dockerfile: DEBIAN },
    ends: 2,
    says: ['too large to send: more than 2.00 GB', 'data.bin (9.66 GB, 1 file)', '.dockerignore'],
  },
}

/** What the server, or the way to it, refuses. */
const REFUSED: Readonly<Record<string, Row>> = {
  'wrong token': {
    types: 'ROOST_API_TOKEN=wrong roost apps list',
    ends: 4,
    says: ['the server does not accept this token', 'not known here', 'roost auth login URL'],
  },
  'no token': {
    types: 'ROOST_API_TOKEN= roost apps list',
    env: { HOME: '/nonexistent', XDG_CONFIG_HOME: '/nonexistent' },
    ends: 4,
    says: ['there is no token for', 'ROOST_API_TOKEN is not set', 'roost auth login'],
  },
  'a server that does not listen': {
    types: 'ROOST_API_URL=https://127.0.0.1:9 roost apps list',
    ends: 3,
    says: ['no server listens at https://127.0.0.1:9', 'from ROOST_API_URL', 'roost auth login'],
  },
  'a server whose name nobody knows': {
    types: 'ROOST_API_URL=https://roost.invalid roost apps list',
    ends: 3,
    says: ['the name roost.invalid is not known'],
  },
  'a server whose authority is not known': {
    types: 'ROOST_API_CA= roost apps list',
    env: { HOME: '/nonexistent', XDG_CONFIG_HOME: '/nonexistent' },
    ends: 3,
    says: ['is signed by an authority that is not known here', '--ca FILE'],
  },
  'a server of another version': {
    types:
      'curl -sk --fail-with-body -H "Authorization: Bearer $TOKEN" -H "roost-version: 9.0.0" $URL/v1/apps',
    ends: 22,
    says: ['this server is Roost 0.1.0, the command line is 9.0.0', 'version_mismatch'],
  },
  'a name that is taken': {
    types: 'roost launch --yes --name steady',
    files: { Dockerfile: DEBIAN },
    ends: 1,
    says: ['the name "steady" is taken', /roost launch --name steady-\w{4}/],
  },
  'an unknown region at launch': {
    types: 'roost launch --yes --regions amd',
    files: { Dockerfile: DEBIAN },
    ends: 2,
    says: ['no host is in region "amd"', 'There are ams, iad, syd.', '--regions ams'],
  },
  'an unknown region in fly.toml of a first release': {
    types:
      'roost apps create wrong-region && roost deploy; code=$?; roost apps destroy wrong-region --yes; exit $code',
    files: { 'fly.toml': 'app = "wrong-region"\nprimary_region = "idd"\n', Dockerfile: DEBIAN },
    ends: 2,
    says: ['no host is in region "idd"', 'primary_region = "iad"'],
    withinMs: 30_000,
  },
  'no room': {
    types: 'roost launch --yes --name large --regions ams --vm-memory 900gb',
    files: { Dockerfile: DEBIAN },
    ends: 1,
    says: [
      /no room in ams for a machine of 921600 MB/,
      /Free memory: ams \d+ MB, iad \d+ MB, syd \d+ MB/,
    ],
  },
  'no room for what is scaled': {
    types: 'roost scale count 400 --region iad -a steady',
    ends: 1,
    says: [
      'could not reserve resource for machine',
      /iad; the host with the most room has \d+ MB left \(elsewhere: syd \d+ MB, ams \d+ MB\)/,
    ],
  },
  'an image that is not there': {
    types: 'roost deploy --image registry.internal/steady:never',
    files: { 'fly.toml': TOML },
    ends: 1,
    says: ['image registry.internal/steady:never not found'],
  },
  'an app that is not there': {
    types: 'roost status -a staedy',
    ends: 1,
    says: ['there is no app "staedy"', 'there is "steady"', 'add -a steady'],
  },
  'an error for a script': {
    types: 'roost status -a staedy --json 2> /dev/null',
    ends: 1,
    says: [
      /^\{\n {2}"error": \{[\s\S]*"message": "there is no app \\"staedy\\""[\s\S]*"exit_code": 1/,
    ],
  },
}

const upload = (file: string) =>
  `curl -sk -H "Authorization: Bearer $TOKEN" -H "Content-Type: application/gzip" --data-binary @${file} $URL/api/v1/apps/steady/builds; rm ${file}`
type Header = Parameters<Pack['entry']>[0]
async function archive(entries: readonly Header[]): Promise<Buffer> {
  const tar = pack()
  for (const entry of entries) tar.entry({ ...entry, mtime: new Date(0) }, entry.type ? '' : DEBIAN)
  tar.finalize()
  const chunks: Buffer[] = []
  for await (const chunk of tar) chunks.push(chunk as Buffer)
  return gzipSync(Buffer.concat(chunks))
}
const hostile = (entries: readonly Header[], says: string): Row => ({
  types: upload('evil.tgz'),
  prepare: async (folder) => writeFileSync(join(folder, 'evil.tgz'), await archive(entries)),
  ends: 0,
  says: ['"kind":"failed"', says],
})

/** Contexts that no honest command line sends. */
const HOSTILE: Readonly<Record<string, Row>> = {
  'a name that climbs': hostile([{ name: '../../../../tmp/evil' }], 'leads out of the context'),
  'an absolute name': hostile([{ name: '/etc/evil' }], 'an absolute name'),
  'a link out': hostile(
    [{ name: 'Dockerfile', type: 'symlink', linkname: '../../../../etc/passwd' }],
    'a link that leads out of the context',
  ),
  'a hard link out': hostile(
    [{ name: 'Dockerfile', type: 'link', linkname: '/etc/passwd' }],
    'an absolute name',
  ),
  'a device': hostile([{ name: 'disk', type: 'block-device' }], "a block-device can't be part"),
  'a long name': hostile([{ name: 'n'.repeat(300) }], 'a name of more than 255 bytes'),
  'what is too large': {
    types: upload('evil.tgz'),
    prepare: async (folder) => {
      const tar = pack()
      // Only said: nothing of it follows.
      tar.entry({ name: 'data', size: 9_000_000_000, mtime: new Date(0) })
      const [header] = (await once(tar, 'data')) as [Buffer]
      tar.destroy()
      writeFileSync(join(folder, 'evil.tgz'), gzipSync(header))
    },
    ends: 0,
    says: ['"kind":"failed"', 'more than 2000 MB'],
  },
  'no archive at all': {
    types: upload('junk'),
    files: { junk: 'hello' },
    ends: 0,
    says: ['"kind":"failed"', 'no gzipped TAR'],
  },
}

const launch = (name: string, more = '') =>
  `roost launch --yes --name ${name} --regions ams ${more}`
const LEFT = 'Nothing is left of it: no app, no machine, no fly.toml.'

/** What is built and started, and can't work. */
const BUILT: Readonly<Record<string, Row>> = {
  // The first, since it waits for longest: the others are tried meanwhile.
  'a program that listens on another port': {
    types: launch('elsewhere'),
    files: { Dockerfile: listens(3000, '0.0.0.0') },
    ends: 1,
    says: [
      'nothing listens on port 8080, but on 0.0.0.0:3000',
      'set internal_port = 3000',
      LEFT,
      '--internal-port 3000',
    ],
    withinMs: 90_000,
  },
  'a build that fails': {
    types: launch('fails'),
    files: { Dockerfile: `${DEBIAN}RUN echo cannot find the flux && exit 9\n` },
    ends: 1,
    says: [
      'the build failed',
      'Dockerfile line 2: RUN',
      'exit status 9',
      'cannot find the flux',
      LEFT,
    ],
    withinMs: 60_000,
  },
  'a Dockerfile for another architecture': {
    types: launch('arm'),
    files: { Dockerfile: 'FROM --platform=linux/arm64 debian:bookworm-slim\n' },
    ends: 1,
    says: ['Dockerfile line 1', '--platform=linux/arm64', 'builds for linux/amd64 only', LEFT],
    withinMs: 60_000,
  },
  'an image that exits at once': {
    types: launch('exits'),
    files: { Dockerfile: program('sh', '-c', 'echo the flux is empty >&2; exit 3') },
    ends: 1,
    says: ['release v1 of exits failed', 'exited', 'with code 3', 'the flux is empty', LEFT],
    withinMs: 90_000,
  },
  'an image that needs more memory': {
    types: launch('hungry', '--vm-memory 64'),
    files: { Dockerfile: program('tail', '/dev/zero') },
    ends: 1,
    says: ['ran out of memory', 'it has 64 MB', LEFT, '--vm-memory 128'],
    withinMs: 90_000,
  },
  'a program that listens where only itself can reach it': {
    types: launch('inside'),
    files: { Dockerfile: listens(8080, '127.0.0.1') },
    ends: 1,
    says: ['the program listens on 127.0.0.1:8080', 'let it listen on 0.0.0.0:8080', LEFT],
    withinMs: 90_000,
  },
  'an image of another architecture': {
    types: 'roost deploy --image registry.internal/steady:arm',
    files: { 'fly.toml': TOML },
    prepare: () => pushForeignImage('steady', 'arm'),
    ends: 1,
    says: ['it is for linux/arm64, this host is linux/amd64', 'serves on'],
    withinMs: 60_000,
  },
}

/** An image that no host here can run, brought into the registry as any client would. */
async function pushForeignImage(repository: string, tag: string): Promise<void> {
  const asked = { ca, apiUrl: playground.server, apiToken: token, repository }
  const client = createRegistryClient({
    url: 'https://10.210.4.1:5000',
    ca,
    token: await registryTokenFor({ ...asked, actions: ['pull', 'push'] }),
    netns: `/run/netns/${NAME}-ams`,
  })
  const config = JSON.stringify({
    architecture: 'arm64',
    os: 'linux',
    config: { Cmd: ['/run'] },
    rootfs: { type: 'layers', diff_ids: [] },
  })
  const digest = `sha256:${createHash('sha256').update(config).digest('hex')}`
  const place = await client.request({ method: 'POST', path: `/v2/${repository}/blobs/uploads/` })
  await readBody(place)
  const at = String(place.headers.location)
  const put = await client.request({
    method: 'PUT',
    path: `${at}${at.includes('?') ? '&' : '?'}digest=${digest}`,
    headers: { 'content-type': 'application/octet-stream' },
    body: config,
  })
  expect(put.statusCode, await readBody(put)).toBe(201)
  const type = 'application/vnd.docker.distribution.manifest.v2+json'
  const manifest = await client.request({
    method: 'PUT',
    path: `/v2/${repository}/manifests/${tag}`,
    headers: { 'content-type': type },
    body: JSON.stringify({
      schemaVersion: 2,
      mediaType: type,
      config: {
        mediaType: 'application/vnd.docker.container.image.v1+json',
        size: Buffer.byteLength(config),
        digest,
      },
      layers: [],
    }),
  })
  expect(manifest.statusCode, await readBody(manifest)).toBe(201)
}

function folderOf(name: string, files: Row['files'] = {}): string {
  const folder = mkdtempSync(join(home, `${name.replace(/\W+/g, '-').slice(0, 30)}-`))
  for (const [path, content] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, path)), { recursive: true })
    writeFileSync(join(folder, path), content)
  }
  return folder
}

const shellEnv = (more: Readonly<Record<string, string>> = {}): NodeJS.ProcessEnv => ({
  ...process.env,
  PATH: `${ROOT}:${process.env['PATH']}`,
  HOME: home,
  XDG_CONFIG_HOME: join(home, '.config'),
  NO_COLOR: '1',
  TMPDIR: temp,
  URL: playground.server,
  TOKEN: token,
  ROOST_API_URL: playground.server,
  ROOST_API_TOKEN: token,
  ROOST_API_CA: join(home, 'ca.pem'),
  ...more,
})

/** Everything below, with its kind, so that what came or went shows. */
function contents(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .map((entry) => `${join(entry.parentPath, entry.name)} ${entry.isFile()}`)
    .sort()
}

async function tried(name: string, row: Row): Promise<void> {
  const folder = folderOf(name, row.files)
  await row.prepare?.(folder)
  const before = contents(folder).filter((path) => !/\/(evil\.tgz|junk) /.test(path))
  const began = performance.now()
  const { code, stdout, stderr } = await run(['bash', '-c', row.types], {
    cwd: folder,
    env: shellEnv(row.env),
    timeoutMs: 150_000,
  })
  const tookMs = performance.now() - began
  const said = stderr.includes('Error:') || stderr.includes('Stopped:') ? stderr : stdout + stderr
  const text = said.slice(Math.max(0, said.indexOf('Error:')))
  let at = 0
  for (const words of row.says) {
    const rest = text.slice(at)
    const found = typeof words === 'string' ? rest.indexOf(words) : rest.search(words)
    if (found < 0) throw new Error(`"${words}" is not said after ${at}:\n${stdout}\n--\n${stderr}`)
    at += typeof words === 'string' ? found + words.length : found
  }
  expect(said.split('Error:').length, `one message:\n${said}`).toBeLessThanOrEqual(2)
  expect(said).not.toMatch(/\n\s+at .*\.(ts|mjs|js):\d+/)
  expect(code, said).toBe(row.ends)
  expect(tookMs).toBeLessThan(row.withinMs ?? 20_000)
  expect(contents(folder)).toEqual(before)
  console.log(`${name}: ${code} after ${Math.round(tookMs)} ms`)
}

beforeAll(async () => {
  playground = await json<Playground>(['playground', 'status', ...PLAYGROUND])
  token = readFileSync(playground.token_file, 'utf8').trim()
  ca = readFileSync(join(DATA, 'keys/ca.crt'), 'utf8')
  writeFileSync(join(home, 'ca.pem'), ca)
  await ok(['launch', '--yes', '--name', 'steady', '--regions', 'ams', '--ha=false'], {
    cwd: folderOf('steady', { Dockerfile: listens(8080) }),
  })
})

afterAll(async () => {
  await destroyAllApps(own)
  rmSync(home, { recursive: true, force: true })
})

const rows = (table: Readonly<Record<string, Row>>) => Object.entries(table)

describe('refused with what mends it, and nothing is left', () => {
  test.concurrent.each(rows(BUILT))('%s', tried)
  test.concurrent.each(rows(HOSTILE))('a context with %s', tried)
  test.concurrent.each(rows(REFUSED))('%s', tried)
  test.concurrent.each(rows(WITHOUT_SERVER))('%s', tried)
})

/** Starts a line on a terminal of its own, or without one, and presses Ctrl-C when it says `when`. */
async function interrupted(
  argv: readonly string[],
  when: RegExp,
  options: { readonly cwd: string; readonly onTerminal?: boolean },
): Promise<{ code: number; text: string; tookMs: number }> {
  const line = options.onTerminal
    ? ['script', '-qec', `stty cols 100; ${argv.join(' ')}`, '/dev/null']
    : [join(ROOT, 'roost'), ...argv.slice(1)]
  const child = spawn(line[0] ?? '', line.slice(1), { cwd: options.cwd, env: shellEnv() })
  let text = ''
  let pressedAt = 0
  const heard = (chunk: Buffer) => {
    text += chunk
    if (pressedAt !== 0 || !when.test(text)) return
    pressedAt = performance.now()
    // On a terminal Ctrl-C is a key, and elsewhere a signal.
    if (options.onTerminal) child.stdin.write('\x03')
    else child.kill('SIGINT')
  }
  child.stdout.on('data', heard)
  child.stderr.on('data', heard)
  const timer = setTimeout(() => child.kill('SIGKILL'), 60_000)
  const code = await new Promise<number>((resolve) =>
    child.on('close', (status) => resolve(status ?? -1)),
  )
  clearTimeout(timer)
  expect(pressedAt, `${when} was never said:\n${text}`).not.toBe(0)
  return { code, text, tookMs: performance.now() - pressedAt }
}

/** Processes, containers and mounts of builds, from the kernel and from buildah's own list. */
function buildsGoingOn(): string[] {
  const processes = readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap((pid) => {
      try {
        const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ')
        return command.includes(`${DATA}/builder`) || command.startsWith('sleep 300')
          ? [command]
          : []
      } catch {
        return []
      }
    })
  const list = join(DATA, 'builder/storage/overlay-containers/containers.json')
  const containers: unknown[] = existsSync(list) ? JSON.parse(readFileSync(list, 'utf8')) : []
  const mounts = readFileSync('/proc/mounts', 'utf8')
    .split('\n')
    .filter((mount) => mount.includes(`${DATA}/builder`))
  const work = join(DATA, 'builder/work')
  return [
    ...processes,
    ...containers.map((container) => JSON.stringify(container)),
    ...mounts,
    ...(existsSync(work) ? readdirSync(work) : []),
  ]
}

describe('Ctrl-C', () => {
  test.each([
    ['the name', /Name of the app/],
    ['the regions', /Regions\?/],
  ])('at the question for %s makes nothing', async (_, when) => {
    const folder = folderOf('asks', { Dockerfile: DEBIAN })
    const argv = ['roost', 'launch', ...(/Regions/.test(String(when)) ? ['--name', 'asked'] : [])]
    const { code, text, tookMs } = await interrupted(argv, when, { cwd: folder, onTerminal: true })
    expect(code, text).toBe(130)
    expect(text).toContain('Stopped: cancelled')
    expect(tookMs).toBeLessThan(5000)
    expect(readdirSync(folder)).toEqual(['Dockerfile'])
  })

  test('while the folder is sent ends the build before it began', async () => {
    const folder = folderOf('sends', { Dockerfile: `${DEBIAN}COPY . /x\n` })
    await run(['dd', 'if=/dev/urandom', `of=${folder}/data`, 'bs=1M', 'count=100', 'status=none'])
    const { code, text, tookMs } = await interrupted(
      ['roost', 'launch', '--yes', '--name', 'sends', '--regions', 'ams'],
      /receive the context/,
      { cwd: folder },
    )
    expect(code, text).toBe(130)
    expect(text).toContain(LEFT)
    expect(tookMs).toBeLessThan(5000)
    expect(readdirSync(folder).sort()).toEqual(['Dockerfile', 'data'])
    rmSync(folder, { recursive: true })
  })

  test('while it is built ends the build on the builder', async () => {
    const folder = folderOf('builds', { Dockerfile: `${DEBIAN}RUN echo it runs && sleep 300\n` })
    const { code, text, tookMs } = await interrupted(
      ['roost', 'launch', '--yes', '--name', 'builds', '--regions', 'ams'],
      /\nit runs/,
      { cwd: folder },
    )
    expect(code, text).toBe(130)
    expect(text).toContain('the build was cancelled; nothing was released')
    expect(text).toContain(LEFT)
    expect(tookMs).toBeLessThan(5000)
    const { afterMs } = await eventually('the builder is idle', 10_000, async () => {
      expect(buildsGoingOn().join('\n')).toBe('')
      return true
    })
    console.log(`the builder is idle ${afterMs} ms after Ctrl-C`)
    expect(readdirSync(folder)).toEqual(['Dockerfile'])
  })

  test('while a release is followed leaves it to the server, and says how to take it back', async () => {
    const folder = folderOf('follows', { Dockerfile: listens(3000, '0.0.0.0') })
    const { code, text, tookMs } = await interrupted(
      ['roost', 'launch', '--yes', '--name', 'follows', '--regions', 'ams'],
      /is started/,
      { cwd: folder },
    )
    expect(code, text).toBe(130)
    expect(text).toContain('release v1 goes on in the server')
    expect(text).toContain('--follow -a follows')
    expect(text).toContain('roost apps destroy follows   # takes all of it back')
    expect(tookMs).toBeLessThan(5000)
    await ok(['apps', 'destroy', 'follows', '--yes'])
  })
})

describe('what serves is not touched', () => {
  test('a deploy that fails leaves the release before it serving', async () => {
    const before = await json(['status', '-a', 'steady'])
    await tried('deploy of what exits', {
      types: 'roost deploy -a steady',
      files: { 'fly.toml': TOML, Dockerfile: program('sh', '-c', 'echo no; exit 4') },
      ends: 1,
      says: ['of steady failed', 'with code 4', 'serves on'],
      withinMs: 90_000,
    })
    const after = await json(['status', '-a', 'steady'])
    expect(after.machines.map(({ id, state }) => [id, state])).toEqual(
      before.machines.map(({ id }) => [id, 'started']),
    )
  })

  test('with the registry down a deploy says so within seconds', async () => {
    const region = playground.regions.find(({ code }) => code === 'ams') as unknown as {
      programs: { name: string; pid: number }[]
    }
    const pid = region.programs.find(({ name }) => name === 'registry')?.pid ?? 0
    process.kill(pid, 'SIGSTOP')
    try {
      await tried('registry down', {
        types: 'roost deploy -a steady',
        files: { 'fly.toml': TOML, Dockerfile: listens(8080) },
        ends: 1,
        says: ['image store', 'roost hosts'],
        withinMs: 30_000,
      })
    } finally {
      process.kill(pid, 'SIGCONT')
    }
  })
})

test('after all of it nothing is left but what serves', async () => {
  const apps: { name: string }[] = await json(['apps', 'list'])
  expect(apps.map(({ name }) => name)).toEqual(['steady'])
  const { machines } = await json(['status', '-a', 'steady'])
  const all = machines.map(({ id }) => id)
  await eventually('the hosts are clean', 30_000, async () => {
    for (const region of REGIONS)
      expect(
        await leftovers({
          playground: NAME,
          region,
          machines: machines.filter((one) => one.region === region).map(({ id }) => id),
          all,
        }),
      ).toEqual([])
    expect(buildsGoingOn().join('\n')).toBe('')
    return true
  })
  // Node keeps its compiled scripts there.
  expect(readdirSync(temp).filter((name) => name !== 'node-compile-cache')).toEqual([])
  expect(existsSync('/tmp/evil') || existsSync('/etc/evil')).toBe(false)
})
