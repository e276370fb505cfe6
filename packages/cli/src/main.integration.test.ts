import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { startTrialServer, type TrialServer } from './session/trial-server.ts'

/** The bundle as people start it: what only a bundler can break. */
const ROOT = join(import.meta.dirname, '../../..')
const home = mkdtempSync(join(tmpdir(), 'roost-main-'))
let server: TrialServer

beforeAll(async () => {
  const built = await run(join(ROOT, 'scripts/setup.d/20-cli-bundle.sh'))
  expect(built).toMatchObject({ code: 0 })
  server = await startTrialServer({
    listRegions: () => ({ value: [] }),
    listApps: () => ({ value: { total_apps: 0, apps: [] } }),
    appStatus: () => ({ refusal: { status: 404, code: 'not_found', error: 'app not found' } }),
    appLogs: () => ({
      lines: async function* () {
        for (let n = 0; n < 20_000; n++)
          yield { timestamp: 't', machine: 'm', region: 'ams', host: 'h', message: `line ${n}` }
      },
    }),
  })
})
afterAll(async () => {
  await server.close()
  rmSync(home, { recursive: true, force: true })
})

function run(program: string, ...args: string[]) {
  return new Promise<{ code: number | null; out: string; err: string }>((resolve, reject) => {
    const child = spawn(program, args, {
      cwd: home,
      env: {
        ...process.env,
        HOME: home,
        XDG_CONFIG_HOME: join(home, '.config'),
        ...(server === undefined ? {} : { ROOST_API_URL: server.url, ROOST_API_TOKEN: 'token' }),
      },
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: 30_000,
    })
    const text = { out: '', err: '' }
    child.stdout.on('data', (chunk) => {
      text.out += chunk
    })
    child.stderr.on('data', (chunk) => {
      text.err += chunk
    })
    child.on('error', reject)
    child.on('close', (code) => resolve({ code, ...text }))
  })
}
const roost = (...args: string[]) => run(join(ROOT, 'roost'), ...args)

test('help comes first', async () => {
  const { code, out, err } = await roost('--help')
  expect({ code, err }).toEqual({ code: 0, err: '' })
  expect(out).toContain('Usage: roost COMMAND')
  expect((await roost('help', 'status')).out).toContain('Usage: roost status')
})

test('a request reaches the server, and its refusal is explained', async () => {
  expect(await roost('regions', '--json')).toEqual({ code: 0, out: '[]\n', err: '' })
  const { code, err } = await roost('status', '-a', 'shop')
  expect(code).toBe(1)
  expect(err).toContain('Error: there is no app "shop"')
})

test('a wrong command line ends with 2', async () => {
  expect(await roost('regions', '--jsno')).toEqual({
    code: 2,
    out: '',
    err: "Error: unknown option '--jsno'\n  (Did you mean --json?)\n  Try: roost regions --help\n",
  })
})

test('a broken fly.toml and a Dockerfile are read in the bundle too', async () => {
  const { code, err } = await roost('launch', '--yes')
  expect(code).toBe(2)
  expect(err).toContain('there is no Dockerfile')
})

test('commands that are loaded from sources find their parent', async () => {
  const { code, err } = await roost('playground', 'status', '--name', 'nobodys')
  expect(code).toBe(1)
  expect(err).toContain('no playground called nobodys is up')
})

test('much output is written whole before it ends, and a reader that has enough ends it', async () => {
  const whole = await roost('logs', '-a', 'shop', '-n', '0')
  expect(whole.out.trimEnd().split('\n')).toHaveLength(20_000)
  const cut = await run('/bin/sh', '-c', `${join(ROOT, 'roost')} logs -a shop | head -1`)
  expect(cut).toEqual({ code: 0, out: 't ams [m] line 0\n', err: '' })
})
