import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { COMMANDS } from './command-table.ts'
import { helpText } from './help-text.ts'
import {
  startTrialServer,
  type TrialAnswers,
  type TrialServer,
  trialTerminal,
} from './session/trial-server.ts'

let folder = ''
let server: TrialServer | null = null
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'roost-cli-'))
})
afterEach(async () => {
  await server?.close()
  server = null
  rmSync(folder, { recursive: true, force: true })
})

async function terminalOn(answers: TrialAnswers, more: { input?: string; columns?: number } = {}) {
  server = await startTrialServer(answers)
  const env = { ROOST_API_URL: server.url, ROOST_API_TOKEN: 'token' }
  return trialTerminal({ cwd: folder, env, ...more })
}
const alone = (env: Record<string, string> = {}) => trialTerminal({ cwd: folder, env })

const STATUS = {
  name: 'shop',
  hostname: 'shop.roost.test',
  release: {
    app: 'shop',
    version: 3,
    status: 'complete',
    cause: 'deploy',
    image: 'registry.internal/shop@sha256:abc',
    groups: ['app'],
    reason: null,
    created_at: new Date().toISOString(),
    updated_at: new Date().toISOString(),
    created_by: 'admin',
    strategy: 'rolling',
    serving: true,
    rollback_of: null,
    returned: null,
    before: null,
    plan: [],
  },
  machines: ['ams', 'iad'].map((region, n) => ({
    id: `3d8d9014b5108${n}`,
    state: 'started',
    group: 'app',
    region,
    host: `${region}-1`,
    image: 'registry.internal/shop@sha256:abc',
    checks: [{ name: 'servicecheck-00-tcp-8080', status: 'passing', output: '' }],
    private_ip: 'fdaa:0:1:1::2',
    updated_at: new Date().toISOString(),
    reason: null,
  })),
}

/** What these print is said by a program in a machine. */
const OF_A_PROGRAM = new Set(['console', 'ssh console', 'sftp ls', 'sftp find'])

describe('help', () => {
  test('names every command and noun', () => {
    const text = helpText()
    for (const { commands } of COMMANDS)
      for (const { words } of commands) expect(text).toMatch(new RegExp(`^ {2}${words[0]} `, 'm'))
    expect(text.split('\n').filter((line) => line.length > 80)).toEqual([])
  })

  const commands = COMMANDS.flatMap((group) => group.commands)
  test.each(commands.map(({ words }) => words.filter((word) => word !== undefined)))(
    'roost %s %s explains itself with an example',
    async (...words) => {
      const { code, out, err } = await alone().run(
        ...words.filter((word): word is string => typeof word === 'string'),
        '--help',
      )
      expect({ code, err }).toEqual({ code: 0, err: '' })
      expect(out).toMatch(/Usage: roost/)
      if (words[0] !== 'playground') {
        expect(out).toMatch(/Examples:\n {2}\$ .*roost /)
        if (!OF_A_PROGRAM.has(words.filter(Boolean).join(' '))) expect(out).toMatch(/--json/)
      }
    },
  )

  test('of a noun without a verb lists its verbs', async () => {
    const { code, out } = await alone().run('apps')
    expect(code).toBe(0)
    expect(out).toMatch(/list.*\n.*create.*\n.*destroy/)
  })
})

describe('a wrong command line ends with 2 and says what is right', () => {
  test.each<[string[], string]>([
    [['statsu'], 'Error: there is no command "statsu"\n  Try: roost status\n       roost --help\n'],
    [['frobnicate'], 'Error: there is no command "frobnicate"\n  Try: roost --help\n'],
    [
      ['whoami'],
      'Error: there is no command "whoami"\n  Try: roost auth whoami\n       roost --help\n',
    ],
    [
      ['apps', 'ls'],
      'Error: there is no command "apps ls"\n  Try: roost apps list\n       roost apps --help\n',
    ],
    [
      ['machine', 'strat'],
      'Error: there is no command "machine strat"\n  Try: roost machine start\n       roost machine --help\n',
    ],
    [
      ['secrets', 'rm'],
      'Error: there is no command "secrets rm"\n  Try: roost secrets unset\n       roost secrets --help\n',
    ],
    [
      ['deploy', '--imgae', 'x'],
      "Error: unknown option '--imgae'\n  (Did you mean --image?)\n  Try: roost deploy --help\n",
    ],
    [
      ['machine', 'stop'],
      "Error: missing required argument 'id'\n  Try: roost machine stop --help\n",
    ],
    [
      ['logs', '-n', 'many'],
      "Error: option '-n, --lines [number]' argument 'many' is invalid. It is a number from 0 to 10000.\n  Try: roost logs --help\n",
    ],
    [
      ['deploy', '--regions', 'AMS'],
      `Error: option '--regions <codes>' argument 'AMS' is invalid. "AMS" is no region: they look like ams.\n  Try: roost deploy --help\n`,
    ],
    [
      ['status'],
      'Error: no app is named\n  Try: add -a APP\n       or run it in a folder with a fly.toml\n       roost apps list\n',
    ],
    [
      ['status', '-a', 'Shop!'],
      `Error: "Shop!" can't be the name of an app: lower-case letters, digits and dashes, at most 63, no dash at either end\n`,
    ],
    [
      ['status', '-c', 'nope.toml'],
      'Error: there is no nope.toml\n  Try: roost launch   # writes fly.toml\n',
    ],
  ])('%j', async (argv, expected) => {
    const { code, out, err } = await alone().run(...argv)
    expect({ code, out, err }).toEqual({ code: 2, out: '', err: expected })
  })
})

describe('with --json an error is one object on standard output, and words on the other', () => {
  test.each<[string[], object]>([
    [['status', '--json'], { code: 'usage', message: 'no app is named', exit_code: 2 }],
    [['statsu', '--json'], { code: 'usage', fixes: ['roost status', 'roost --help'] }],
    [['regions', '--jsno', '--json'], { code: 'usage', message: "unknown option '--jsno'" }],
    [['regions', '--json'], { code: 'no_server', exit_code: 3 }],
  ])('%j', async (argv, expected) => {
    const { code, out, err } = await alone().run(...argv)
    const { error } = JSON.parse(out)
    expect(error).toMatchObject(expected)
    expect(error.exit_code).toBe(code)
    expect(err).toContain(`Error: ${error.message}`)
  })

  test('a refusal has the code of the API and the request', async () => {
    const terminal = await terminalOn({
      listRegions: () => ({ refusal: { status: 403, code: 'forbidden', error: 'not you' } }),
    })
    const { code, out } = await terminal.run('regions', '--json')
    expect(JSON.parse(out)).toEqual({
      error: {
        code: 'forbidden',
        message: 'this token may not do that',
        why: 'not you',
        fixes: ['roost auth whoami   # shows what it may do, and until when'],
        exit_code: 4,
        request_id: 'trial',
      },
    })
    expect(code).toBe(4)
  })
})

describe('which server', () => {
  test('none is known', async () => {
    const { code, err } = await alone().run('regions')
    expect(code).toBe(3)
    expect(err).toBe(`Error: no server is known
  ROOST_API_URL is not set and nobody has logged in here
  Try: roost playground up --regions ams,iad,syd   # a server on this machine
       roost auth login URL
`)
  })

  test('one that does not answer', async () => {
    const gone = await startTrialServer({})
    await gone.close()
    const { code, err } = await alone({
      ROOST_API_URL: gone.url,
      ROOST_API_TOKEN: 'token',
    }).run('regions')
    expect(code).toBe(3)
    expect(err).toBe(`Error: no server listens at ${gone.url}
  The machine answers, but refuses the connection: the server is stopped, or listens on another port. The URL is from ROOST_API_URL.
  Try: roost playground status   # whether it is up
       roost auth login URL   # if another server is meant
`)
  })

  test('one that does not know the token', async () => {
    const terminal = await terminalOn({
      listRegions: () => ({
        refusal: { status: 401, code: 'unauthorized', error: 'unknown token' },
      }),
    })
    const { code, err } = await terminal.run('regions')
    expect(code).toBe(4)
    expect(err).toBe(
      'Error: the server does not accept this token\n  unknown token\n  Try: roost auth login URL --token-file FILE   # with a token that it knows\n',
    )
  })

  test('one with a fault names the request', async () => {
    const terminal = await terminalOn({
      listRegions: () => ({ refusal: { status: 500, code: 'internal', error: 'internal error' } }),
    })
    expect((await terminal.run('regions')).err).toContain('internal error (request trial)')
  })

  test('login keeps it for its owner alone, and later commands use it', async () => {
    const me = {
      name: 'admin',
      actions: ['*'],
      apps: null,
      expires_at: null,
      version: '0.1.0',
      domain: 'roost.test',
    }
    server = await startTrialServer({
      whoami: () => ({ value: me }),
      listApps: () => ({ value: { total_apps: 0, apps: [] } }),
    })
    const terminal = trialTerminal({ cwd: folder, input: 'the-token\n' })
    const login = await terminal.run(
      'auth',
      'login',
      `${server.url}/`,
      '--token-file',
      '-',
      '--name',
      'here',
    )
    expect(login).toMatchObject({ code: 0, err: '' })
    const file = join(folder, '.config/roost/config.json')
    expect(statSync(file).mode & 0o777).toBe(0o600)
    expect(JSON.parse(readFileSync(file, 'utf8'))).toEqual({
      version: 1,
      current: 'here',
      contexts: { here: { url: server.url, token: 'the-token', ca: null } },
    })
    expect((await terminal.run('apps', 'list')).out).toBe('No apps yet. Make one: roost launch\n')
    expect(server.of('listApps')[0]?.headers.authorization).toBe('Bearer the-token')

    const other = trialTerminal({ cwd: folder, env: { ROOST_API_URL: server.url } })
    expect((await other.run('auth', 'whoami', '--json')).out).toContain('"from": "ROOST_API_URL"')
    expect((await terminal.run('auth', 'logout')).out).toBe('Forgot here.\n')
    expect((await terminal.run('apps', 'list')).err).toContain('no server is known')
  })

  test('login with a token that the server refuses keeps nothing', async () => {
    server = await startTrialServer({
      whoami: () => ({ refusal: { status: 401, code: 'unauthorized', error: 'unknown token' } }),
    })
    const { code } = await alone().run('auth', 'login', server.url, '--token', 'wrong')
    expect(code).toBe(4)
    expect((await alone().run('apps', 'list')).err).toContain('no server is known')
  })
})

describe('status', () => {
  test('--json gives the answer as it is', async () => {
    const terminal = await terminalOn({ appStatus: () => ({ value: STATUS }) })
    const { code, out, err } = await terminal.run('status', '-a', 'shop', '--json')
    expect({ code, err }).toEqual({ code: 0, err: '' })
    expect(JSON.parse(out)).toEqual({ ...STATUS, traffic: null })
  })

  test('with what the edges have counted, and whose word is missing', async () => {
    const numbers = {
      ...{ requests: 3600, per_second: 12, failed: 3, p50_ms: 4.25, p99_ms: 1400 },
      ...{ bytes_in: 1, bytes_out: 2, responses: { 200: 3597, 503: 3 }, concurrency: 4 },
    }
    const machine = { ...numbers, id: STATUS.machines[1]?.id ?? '', per_second: 0.004 }
    const traffic = { minutes: 5, total: numbers, machines: [machine], silent: ['syd-1'] }
    const terminal = await terminalOn({
      appStatus: () => ({ value: STATUS }),
      appTraffic: () => ({ value: traffic }),
    })
    const json = await terminal.run('status', '-a', 'shop', '--json')
    expect(JSON.parse(json.out)).toEqual({ ...STATUS, traffic })
    const { out } = await terminal.run('status', '-a', 'shop')
    expect(out).toContain(
      'Traffic  12 requests/s over 5 minutes, 3 failed, half within 4.3 ms, 99 % within 1.4 s (without what syd-1 answered, which can not be asked now)\n',
    )
    expect(out).toMatch(/REQ\/S +UPDATED\n.* 0 +\d+ s ago\n.* <0.01 +\d+ s ago\n/)
  })

  test('without it a person gets a table', async () => {
    const terminal = await terminalOn({ appStatus: () => ({ value: STATUS }) })
    writeFileSync(join(folder, 'fly.toml'), 'app = "shop"\nfrobnicate = 1\n')
    const { out } = await terminal.run('status')
    expect(out.replace(/\d+ s ago/g, '0 s ago')).toBe(`App      shop
URL      http://shop.roost.test
Release  v3 complete, 0 s ago
Image    registry.internal/shop@sha256:abc

MACHINE         STATE    REGION  HOST   CHECKS       PRIVATE IP     UPDATED
3d8d9014b51080  started  ams     ams-1  1/1 passing  fdaa:0:1:1::2  0 s ago
3d8d9014b51081  started  iad     iad-1  1/1 passing  fdaa:0:1:1::2  0 s ago
`)
  })

  test('on a narrow terminal every row stays on its line', async () => {
    const terminal = await terminalOn({ appStatus: () => ({ value: STATUS }) }, { columns: 70 })
    const { out } = await terminal.run('-a', 'shop', 'status')
    const rows = out.split('\n').filter((line) => line.includes('-1'))
    // biome-ignore lint/suspicious/noControlCharactersInRegex: colours
    expect(rows.map((row) => row.replace(/\x1b\[\d+m/g, '').length <= 70)).toEqual([true, true])
  })

  test('of an app that is not there names the one that was meant', async () => {
    const refusal = { status: 404, code: 'not_found', error: 'app not found' }
    const app = {
      id: 'shop',
      name: 'shop',
      status: 'deployed',
      machine_count: 1,
      volume_count: 0,
      network: 'default',
      organization: { name: 'p', slug: 'personal' },
    }
    const terminal = await terminalOn({
      appStatus: () => ({ refusal }),
      listApps: () => ({ value: { total_apps: 1, apps: [app] } }),
    })
    const { code, err } = await terminal.run('status', '-a', 'shpo')
    expect(code).toBe(1)
    expect(err).toBe('Error: there is no app "shpo"\n  there is "shop"\n  Try: add -a shop\n')
  })

  test.each([
    ['ROOST_APP', { ROOST_APP: 'one', FLY_APP: 'two' }, 'one'],
    ['FLY_APP', { FLY_APP: 'two' }, 'two'],
  ])('%s names the app', async (_, env, app) => {
    server = await startTrialServer({ appStatus: () => ({ value: STATUS }) })
    await alone({ ...env, ROOST_API_URL: server.url, ROOST_API_TOKEN: 't' }).run('status')
    expect(server.calls[0]?.path).toBe(`/api/v1/apps/${app}/status`)
  })
})

describe('secrets', () => {
  test('a value from standard input loses its last newline and is never printed', async () => {
    const terminal = await terminalOn(
      { setSecrets: () => ({ value: { release: null } }) },
      { input: 'line one\nline two\n' },
    )
    const { code, out } = await terminal.run(
      'secrets',
      'set',
      'KEY=-',
      'B=x=y',
      '-a',
      'shop',
      '--stage',
    )
    expect(code).toBe(0)
    expect(server?.of('setSecrets')[0]?.body).toEqual({
      values: { KEY: 'line one\nline two', B: 'x=y' },
      stage: true,
    })
    expect(out).toBe('Stored: B, KEY. The next release brings it to the machines.\n')
  })

  test.each([
    [['KEY'], 'a secret looks like NAME=VALUE'],
    [['1KEY=top-secret'], '"1KEY" can\'t be the name'],
    [['A=top-secret', 'A=2'], 'A is there twice'],
  ])('%j is refused without the value', async (pairs, message) => {
    const { code, err } = await alone().run('secrets', 'set', ...pairs, '-a', 'shop')
    expect(code).toBe(2)
    expect(err).toContain(message)
    expect(err).not.toContain('top-secret')
  })

  test('unset of one that is not there names the one that was meant', async () => {
    const terminal = await terminalOn({
      listSecrets: () => ({
        value: [{ name: 'DATABASE_URL', digest: 'd', created_at: '', updated_at: '' }],
      }),
    })
    const { code, err } = await terminal.run('secrets', 'unset', 'DATABASE_ULR', '-a', 'shop')
    expect(code).toBe(2)
    expect(err).toContain('Try: roost secrets unset DATABASE_URL')
  })
})

describe('what can not be taken back', () => {
  const answers: TrialAnswers = {
    getApp: () => ({
      value: {
        id: 'shop',
        name: 'shop',
        status: 'deployed',
        machine_count: 1,
        volume_count: 0,
        network: 'default',
        organization: { name: 'p', slug: 'personal' },
      },
    }),
    listMachines: () => ({ value: [] }),
    deleteApp: () => ({ value: {} }),
  }
  test('is asked for first, and not done when nobody can answer', async () => {
    const terminal = await terminalOn(answers)
    const { code, err } = await terminal.run('apps', 'destroy', 'shop')
    expect(code).toBe(2)
    expect(err).toContain('Try: add --yes')
    expect(server?.of('deleteApp')).toEqual([])
  })
  test('is done with --yes', async () => {
    const terminal = await terminalOn(answers)
    expect(await terminal.run('apps', 'destroy', 'shop', '--yes')).toMatchObject({
      code: 0,
      out: 'App shop is destroyed.\n',
    })
    expect(server?.of('deleteApp')[0]?.query).toEqual({ force: 'true' })
  })
})

describe('logs', () => {
  const line = (n: number, message = `line ${n}`) => ({
    timestamp: `2026-01-01T00:00:0${n}.000Z`,
    machine: '3d8d9014b51080',
    region: 'ams',
    host: 'ams-1',
    message,
  })

  test('are printed without what could harm a terminal', async () => {
    const terminal = await terminalOn({
      appLogs: () => ({
        lines: async function* () {
          yield line(1, '\u001b[31mred\u001b[0m \u001b]0;title\u0007\u001b[2Jx')
        },
      }),
    })
    const { out } = await terminal.run('logs', '-a', 'shop', '-n', '5', '--region', 'ams')
    expect(out).toBe('2026-01-01T00:00:01.000Z ams [3d8d9014b51080] red x\n')
    expect(server?.calls[0]?.query).toEqual({ lines: '5', region: 'ams' })
  })

  test('followed over a server that goes away, each line once', async () => {
    let connection = 0
    const terminal = await terminalOn({
      appLogs: () => {
        connection += 1
        const first = connection === 1
        return {
          lines: async function* (response) {
            yield line(1)
            yield line(2)
            if (first) {
              // Cut as a killed process would.
              await new Promise((resolve) => response.write('', resolve))
              response.destroy()
              return
            }
            yield line(3)
            await new Promise(() => {})
          },
        }
      },
    })
    const running = terminal.run('logs', '-f', '-a', 'shop', '--json')
    let out = ''
    terminal.context.stdout.write = (text: string) => {
      out += text
      if (out.includes('line 3')) terminal.interrupt()
    }
    const { code, err } = await running
    expect(code).toBe(0)
    expect(
      out
        .trim()
        .split('\n')
        .map((text) => JSON.parse(text).message),
    ).toEqual(['line 1', 'line 2', 'line 3'])
    expect(err).toContain('the connection broke')
  })

  const asked = (n: number, change: Record<string, unknown> = {}) => ({
    timestamp: `2026-01-01T00:00:0${n}.000Z`,
    ...{ region: 'ams', host: 'ams-1', client: '192.0.2.7', method: 'GET', path: '/a' },
    ...{ status: 200, bytes_in: 10, bytes_out: 1234, duration_ms: 12, request_id: '01ABC-ams' },
    machine: '3d8d9014b51080',
    ...change,
  })

  test('of requests go on until Ctrl-C, over a server that goes away, and say what is missing', async () => {
    let connection = 0
    const terminal = await terminalOn({
      appAccessLogs: () => {
        connection += 1
        const first = connection === 1
        return {
          lines: async function* () {
            yield { timestamp: 't', notice: '3 edges tell of requests from now on' }
            yield asked(connection)
            if (!first) yield asked(3, { path: '/\u001b[2Jx', machine: null, status: 0 })
            if (!first) await new Promise(() => {})
          },
        }
      },
    })
    const args = ['--access', '--query', '--region', 'ams', '--machine', '3d8d9014b51080']
    const running = terminal.run('logs', '-a', 'shop', ...args)
    let out = ''
    terminal.context.stdout.write = (text: string) => {
      out += text
      if (out.includes('00:00:03')) terminal.interrupt()
    }
    const { code, err } = await running
    expect(code).toBe(0)
    expect(out).toBe(
      [
        '2026-01-01T00:00:01.000Z ams 192.0.2.7 GET /a 200 1234B 12ms [3d8d9014b51080] 01ABC-ams\n',
        '2026-01-01T00:00:02.000Z ams 192.0.2.7 GET /a 200 1234B 12ms [3d8d9014b51080] 01ABC-ams\n',
        '2026-01-01T00:00:03.000Z ams 192.0.2.7 GET /x - 1234B 12ms [-] 01ABC-ams\n',
      ].join(''),
    )
    expect(err.match(/3 edges tell/g)).toHaveLength(2)
    expect(err).toContain('the connection broke')
    const query = { region: 'ams', machine: '3d8d9014b51080', query: 'true' }
    expect(server?.calls.map((call) => call.query)).toEqual([query, query])
  })

  test.each([
    [['--access', '-n', '5'], 'leave out --lines'],
    [['--access', '--since', '10m'], 'leave out --since'],
    [['--query'], '--query goes with --access'],
  ])('of requests there are none of before: %s', async (args, why) => {
    const terminal = await terminalOn({})
    const { code, err } = await terminal.run('logs', '-a', 'shop', ...args)
    expect(code).toBe(2)
    expect(err).toContain(why)
  })
})
