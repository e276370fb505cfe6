import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PlatformError, silentLogger } from '@roost/base'
import { afterEach, beforeEach, expect, test } from 'vitest'
import {
  certificatePaths,
  createCertificateFiles,
  type ServedCertificate,
} from './certificate-files.ts'
import type { RuntimeApi } from './runtime-api.ts'

let dir: string
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'roost-certificate-files-'))
})
afterEach(() => rm(dir, { recursive: true, force: true }))

const served = (hostname: string, change: Partial<ServedCertificate> = {}): ServedCertificate => ({
  hostname,
  pem: `PEM of ${hostname}`,
  fingerprint: `F-${hostname}`,
  challenge: false,
  ...change,
})

/** As much of HAProxy's store of certificates as is told it; `refuses` names what it does not take. */
function trialHaproxy(refuses: (pem: string) => boolean = () => false) {
  const certificates = new Map<string, string>()
  /** By the name of the list, in its order; numbers of lines only grow. */
  const lists = new Map<string, { readonly number: number; readonly line: string }[]>()
  let number = 0
  const nameOf = (path: string) => path.split('/').at(-1) ?? ''
  const tokens = new Map<string, string>()
  const commands: string[] = []
  let open: { file: string; pem: string } | null = null
  const one = (command: string): string => {
    if (!command.startsWith('show')) commands.push(command)
    const [, verb = '', kind = '', ...rest] = /^(\S+) (?:ssl )?(\S+) ?(.*)$/.exec(command) ?? []
    const [first = '', file = '', text = ''] = (rest[0] ?? '').split(' ')
    const here = lists.get(nameOf(first)) ?? []
    if (command === 'show ssl cert') return ['# filename', ...certificates.keys()].join('\n')
    if (verb === 'show' && kind === 'cert') return `SHA1 FingerPrint: ${certificates.get(first)}`
    if (verb === 'show' && kind === 'crt-list')
      return (lists.get(nameOf(file)) ?? [])
        .map((one) => one.line.replace(' ', `:${one.number} `))
        .join('\n')
    if (verb === 'show') return [...tokens].map(([key, value]) => `0x1 ${key} ${value}`).join('\n')
    if (verb === 'new') return certificates.set(first, '') && 'New empty certificate store'
    if (verb === 'commit' && open !== null) {
      certificates.set(open.file, open.pem.replace('PEM of ', 'F-'))
      open = null
      return 'Success!'
    }
    if (verb === 'del' && kind === 'crt-list') {
      const rest = here.filter((one) => `${one.line.split(' ')[0]}:${one.number}` !== file)
      lists.set(nameOf(first), rest)
      return rest.length < here.length ? 'deleted' : 'not there'
    }
    if (verb === 'del' && kind === 'cert')
      return certificates.delete(first) ? 'deleted' : 'not there'
    if (verb === 'add') tokens.set(file, text)
    if (verb === 'del') tokens.delete(file)
    return verb === 'commit' ? 'no transaction' : ''
  }
  const api: RuntimeApi = {
    send: async (asked) => asked.map(one),
    async sendPayload(command, payload) {
      commands.push(command)
      if (command.startsWith('add ssl crt-list')) {
        const name = nameOf(command)
        number += 1
        lists.set(name, [...(lists.get(name) ?? []), { number, line: payload }])
        return 'Success!'
      }
      if (refuses(payload)) return 'unable to load certificate'
      open = { file: command.split(' ').at(-1) ?? '', pem: payload }
      return 'Transaction created'
    },
    disconnect() {},
  }
  const lines = (name = 'list') => (lists.get(name) ?? []).map(({ line }) => line)
  return { api, certificates, lines, tokens, commands }
}

function filesOf(
  serving: () => readonly ServedCertificate[],
  tokens = new Map<string, string>(),
  asked: { readonly https: Map<string, string>; readonly tls: Map<string, string> } = {
    https: new Map(),
    tls: new Map(),
  },
  now = () => 0,
) {
  const paths = certificatePaths(dir)
  const files = createCertificateFiles({
    paths,
    serving: async () => serving(),
    tlsOptions: () => asked,
    tokens: () => tokens,
    now,
    log: silentLogger,
  })
  return { files, paths }
}

test('HAProxy and the files that it starts from are brought there, and nothing is said twice', async () => {
  const tokens = new Map([['token', 'token.thumb']])
  let serving = [served('www.example.com'), served('*.example.com')]
  const { files, paths } = filesOf(() => serving, tokens)
  const haproxy = trialHaproxy()
  await files.prepare()
  await files.bringThere(haproxy.api)
  expect([...haproxy.certificates.values()].sort()).toEqual([
    'F-*.example.com',
    'F-www.example.com',
  ])
  expect(haproxy.tokens.get('token')).toBe('token.thumb')
  expect(await readFile(paths.list, 'utf8')).toBe(
    `${paths.dir}/_.example.com.pem *.example.com\n${paths.dir}/www.example.com.pem www.example.com\n`,
  )
  const before = haproxy.commands.length
  await files.bringThere(haproxy.api)
  files.lookAgain()
  await files.bringThere(haproxy.api)
  expect(haproxy.commands).toHaveLength(before)
  serving = serving.slice(0, 1)
  tokens.clear()
  await files.bringThere(haproxy.api)
  expect(haproxy.lines()).toEqual([`${paths.dir}/www.example.com.pem www.example.com`])
  expect(haproxy.tokens.size).toBe(0)
  expect((await readdir(paths.dir)).sort()).toEqual([
    ...['https.list', 'list', 'tls.list', 'tokens.map', 'www.example.com.pem'],
  ])
})

test('what an authority is to see takes the place of what clients see, and gives it back', async () => {
  const own = served('www.example.com')
  let serving = [own]
  const { files } = filesOf(() => serving)
  const haproxy = trialHaproxy()
  await files.bringThere(haproxy.api)
  serving = [served('www.example.com', { pem: 'PEM of challenge', challenge: true })]
  await files.bringThere(haproxy.api)
  expect(haproxy.lines()).toEqual([
    expect.stringMatching(
      /www\.example\.com_[0-9a-f]{12}\.pem \[alpn acme-tls\/1\] www\.example\.com$/,
    ),
  ])
  serving = [own]
  await files.bringThere(haproxy.api)
  expect(haproxy.lines()).toEqual([expect.stringMatching(/www\.example\.com\.pem www/)])
})

test('one that HAProxy refuses is in nobody’s way, and in no file that it starts from', async () => {
  const tokens = new Map([['token', 'token.thumb']])
  const { files, paths } = filesOf(() => [served('bad.example'), served('good.example')], tokens)
  const haproxy = trialHaproxy((pem) => pem.includes('bad'))
  await files.bringThere(haproxy.api)
  expect(haproxy.lines()).toEqual([`${paths.dir}/good.example.pem good.example`])
  expect(haproxy.tokens.size).toBe(1)
  expect(await readFile(paths.list, 'utf8')).toBe(`${paths.dir}/good.example.pem good.example\n`)
})

test('where a renewal is refused, HAProxy starts from what it took before, and an edge that begins adds nothing', async () => {
  let serving = [served('www.example.com')]
  const { files, paths } = filesOf(() => serving)
  const haproxy = trialHaproxy((pem) => pem.includes('bad'))
  await files.bringThere(haproxy.api)
  const written = async () => [
    await readFile(paths.list, 'utf8'),
    await readFile(join(paths.dir, 'www.example.com.pem'), 'utf8'),
  ]
  const before = await written()
  expect(before[1]).toBe('PEM of www.example.com')
  serving = [served('www.example.com', { pem: 'PEM of bad', fingerprint: 'F-bad' })]
  await files.bringThere(haproxy.api)
  expect(await written()).toEqual(before)
  await filesOf(() => [...serving, served('new.example.com')]).files.prepare()
  expect(await written()).toEqual(before)
  expect((await readdir(paths.dir)).filter((name) => name.endsWith('.pem'))).toHaveLength(1)
})

test('one that is refused is tried again after a minute, or when it is another, and nothing else is looked at', async () => {
  let now = 0
  let serving = [served('bad.example'), served('good.example')]
  const { files, paths } = filesOf(
    () => serving,
    new Map(),
    { https: new Map(), tls: new Map() },
    () => now,
  )
  let refused = 'bad'
  const haproxy = trialHaproxy((pem) => pem.includes(refused))
  const asked: string[] = []
  const api: RuntimeApi = {
    ...haproxy.api,
    send(commands) {
      asked.push(...commands)
      return haproxy.api.send(commands)
    },
    sendPayload(command, payload) {
      asked.push(command)
      return haproxy.api.sendPayload(command, payload)
    },
  }
  const lap = async () => {
    asked.length = 0
    await files.bringThere(api)
    return asked.filter((command) => command.includes('.pem'))
  }
  const [bad, good] = [`${paths.dir}/bad.example.pem`, `${paths.dir}/good.example.pem`]
  await lap()
  now = 59_999
  await lap()
  expect(asked).toEqual([])
  // Something else changes: it is not tried for that.
  serving = [...serving, served('more.example')]
  expect((await lap()).filter((command) => command.includes(bad))).toEqual([])
  expect(haproxy.lines()).toHaveLength(2)
  expect(await readFile(paths.list, 'utf8')).not.toContain('bad')

  now = 60_000
  expect(await lap()).toEqual([
    ...[`show ssl cert ${bad}`, `set ssl cert ${bad}`, `commit ssl cert ${bad}`],
  ])
  await lap()
  expect(asked).toEqual([])
  // Another one for the name is tried at once.
  serving = [
    served('bad.example', { pem: 'PEM of renewed', fingerprint: 'F-renewed' }),
    ...serving.slice(1),
  ]
  await lap()
  expect(haproxy.lines()).toHaveLength(3)
  expect(await readFile(paths.list, 'utf8')).toContain('bad.example')
  refused = 'nothing'
  now = 600_000
  await lap()
  expect(asked).toEqual([])
  expect(haproxy.certificates.get(good)).toBe('F-good.example')
})

test('what HAProxy said nothing of is tried again at once', async () => {
  const { files } = filesOf(() => [served('www.example.com')])
  const haproxy = trialHaproxy()
  await files.bringThere({
    ...haproxy.api,
    async sendPayload() {
      throw new PlatformError('unavailable', 'ask HAProxy', { retry: 'later' })
    },
  })
  expect(haproxy.lines()).toEqual([])
  await files.bringThere(haproxy.api)
  expect(haproxy.lines()).toHaveLength(1)
})

test('who is told to look again while it brings something looks again', async () => {
  const { files } = filesOf(() => [served('www.example.com')])
  const first = trialHaproxy()
  const { send } = first.api
  await files.bringThere({
    ...first.api,
    send: async (commands) => {
      // It is the last that it is asked.
      if (commands.length === 0) files.lookAgain()
      return send(commands)
    },
  })
  const next = trialHaproxy()
  await files.bringThere(next.api)
  expect([...next.certificates.values()]).toEqual(['F-www.example.com'])
})

test('what an app asks of handshakes under a name holds where it asked for it, and the name is shown all the while', async () => {
  const asked = { https: new Map<string, string>(), tls: new Map<string, string>() }
  const name = 'www.example.com'
  let serving = [served(name), served('other.example')]
  const { files, paths } = filesOf(() => serving, new Map(), asked)
  const haproxy = trialHaproxy()
  const file = `${paths.dir}/${name}.pem`
  const other = `${paths.dir}/other.example.pem other.example`
  const all = () => [haproxy.lines(), haproxy.lines('https.list'), haproxy.lines('tls.list')]
  await files.bringThere(haproxy.api)
  expect(all()).toEqual([[other, `${file} ${name}`], [], []])

  asked.https.set(name, 'ssl-min-ver TLSv1.3')
  const before = haproxy.commands.length
  await files.bringThere(haproxy.api)
  expect(all()).toEqual([[other], [`${file} [ssl-min-ver TLSv1.3] ${name}`], [`${file} ${name}`]])
  expect(await readFile(paths.https, 'utf8')).toBe(`${file} [ssl-min-ver TLSv1.3] ${name}\n`)
  expect(await readFile(paths.tls, 'utf8')).toBe(`${file} ${name}\n`)
  expect(await readFile(paths.list, 'utf8')).toBe(`${other}\n`)
  // Nothing is taken away before the other is there.
  expect(haproxy.commands.slice(before).map((command) => command.split(' ')[0])).toEqual([
    ...['add', 'add', 'del'],
  ])
  const looked = haproxy.commands.length
  files.lookAgain()
  await files.bringThere(haproxy.api)
  expect(haproxy.commands).toHaveLength(looked)

  asked.https.set(name, 'alpn http/1.1')
  asked.tls.set(name, 'alpn mqtt')
  await files.bringThere(haproxy.api)
  expect(all()).toEqual([
    [other],
    [`${file} [alpn http/1.1] ${name}`],
    [`${file} [alpn mqtt] ${name}`],
  ])
  // An authority is to see its own, on all of them.
  serving = [served(name, { pem: 'PEM of challenge', challenge: true }), served('other.example')]
  await files.bringThere(haproxy.api)
  expect(all()).toEqual([[other, expect.stringContaining('acme-tls/1')], [], []])
  serving = [served(name), served('other.example')]
  asked.https.clear()
  asked.tls.clear()
  await files.bringThere(haproxy.api)
  expect(all()).toEqual([[other, `${file} ${name}`], [], []])
})
