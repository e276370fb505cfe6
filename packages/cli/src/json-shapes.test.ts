import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Command } from 'commander'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { COMMANDS } from './command-table.ts'
import { JSON_LINES, JSON_SHAPES } from './json-shapes.ts'
import { saveContext } from './session/contexts.ts'
import { startTrialServer, type TrialServer, trialTerminal } from './session/trial-server.ts'

const ID = '3d8d9014b51080'
const AT = '2026-01-01T00:00:00.000Z'
const machine = {
  ...{ id: ID, name: 'n', state: 'started', region: 'ams', host: 'ams-1', host_status: 'ok' },
  ...{ instance_id: 'v2', version: 'v2', private_ip: 'fdaa::1', cordoned: false, reason: null },
  ...{ created_at: AT, updated_at: AT, events: [] },
  checks: [{ name: 'c', status: 'passing', output: '', updated_at: AT }],
  image_ref: { registry: 'r', repository: 'shop', tag: '', digest: 'sha256:1', labels: {} },
  config: { image: 'shop:1', guest: { cpu_kind: 'shared', cpus: 1, memory_mb: 256 }, metadata: {} },
}
const release = {
  ...{ app: 'shop', version: 1, status: 'complete', cause: 'scale', image: 'i', reason: null },
  ...{ created_at: AT, updated_at: AT, created_by: 'me', plan: [] },
}
const token = {
  ...{ id: 'b0b0b0b0b0b0', kind: 'deploy', name: 'ci', apps: ['shop'], state: 'active' },
  ...{ created_at: AT, created_by: null, parent: null, expires_at: null },
  ...{ last_used_at: null, revoked_at: null },
}
const shown = {
  ...{ id: ID, state: 'started', region: 'ams', host: 'ams-1', image: 'i', checks: [] },
  ...{ private_ip: '', updated_at: AT, reason: null },
}

const IMAGE = 'registry.internal/shop@sha256:1'
const app = {
  ...{ id: 'shop', name: 'shop', status: 'deployed', machine_count: 1, volume_count: 0 },
  ...{ network: 'default', organization: { name: 'p', slug: 'personal' } },
}
const step = {
  ...{ kind: 'create', region: 'ams', host: 'ams-1', machine: ID, replaces: null, wave: 0 },
}
const event = { at: AT, status: 'complete', message: 'done', machine: ID, region: 'ams' }
const disk = {
  ...{ path: '/var/lib/roost', bytes: 9, free_bytes: 5, inodes: 9, free_inodes: 5, state: 'ok' },
}
const lease = { nonce: 'n', expires_at: 1, owner: 'me', description: '', version: 'v2' }
const session = {
  ...{ id: '1', app: 'shop', machine: ID, container: null, kind: 'exec', token: 'me' },
  ...{ token_id: null, user: null, command: 'ls', terminal: false, begun_at: AT, ended_at: AT },
  ...{ exit_code: 0, reason: null, bytes_in: 0, bytes_out: 3, connections: 1 },
}

const summary = {
  ...{ hostname: 'www.example.com', status: 'active', configured: true, acme_requested: true },
  ...{ acme_dns_configured: true, acme_alpn_configured: true, acme_http_configured: true },
  ...{ ownership_txt_configured: true, has_custom_certificate: false, has_fly_certificate: true },
  ...{ created_at: AT, updated_at: AT, expires_at: AT },
}
const finding = {
  ...{ type: 'CNAME', name: 'www.example.com', wanted: ['shop.roost.test'], needed: true },
  ...{ found: ['shop.roost.test'], state: 'right', why: '' },
}
const certificate = {
  ...{ hostname: 'www.example.com', status: 'active', configured: true, acme_requested: true },
  certificates: [
    {
      ...{ source: 'fly', status: 'active', created_at: AT, expires_at: AT, issuer: 'CN=x' },
      ...{ renews_at: AT, fingerprint: 'f' },
      issued: [{ type: 'ecdsa', expires_at: AT, certificate_authority: 'CN=x' }],
    },
  ],
  validation: {
    ...{ dns_configured: true, alpn_configured: true, http_configured: true },
    ownership_txt_configured: false,
  },
  dns_requirements: {
    ...{ a: ['192.0.2.1'], aaaa: [], cname: 'shop.roost.test' },
    acme_challenge: { name: '_acme-challenge.www.example.com', target: 't' },
    ownership: { name: '_fly-ownership.www.example.com', app_value: 'app-shop', org_value: '' },
  },
  ...{ validation_errors: [], challenge: null, acme_directory: 'https://acme.test/dir' },
  ...{ dns_findings: [finding], failure: null },
}

let folder = ''
let server: TrialServer
const env = () => ({ HOME: folder, XDG_CONFIG_HOME: `${folder}/.config` })
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'roost-cli-'))
  for (const name of ['new', 'there']) {
    mkdirSync(join(folder, name))
    writeFileSync(join(folder, name, 'Dockerfile'), 'FROM a\nEXPOSE 3000\n')
  }
  for (const holds of ['CERTIFICATE', 'PRIVATE KEY'])
    writeFileSync(join(folder, `${holds}.pem`), `-----BEGIN ${holds}-----\n`)
  const value = (one: unknown) => () => ({ value: one })
  const lines = (...all: unknown[]) => ({
    lines: async function* () {
      yield* all
    },
  })
  server = await startTrialServer({
    listApps: value({ total_apps: 1, apps: [app] }),
    getApp: value(app),
    createApp: value(app),
    deleteApp: value(null),
    appStatus: value({ name: 'shop', hostname: 'shop.test', release, machines: [shown] }),
    listMachines: value([machine]),
    getMachine: value(machine),
    createMachine: value(machine),
    updateMachine: value(machine),
    deleteMachine: value({ ok: true }),
    startMachine: value({ previous_state: 'stopped' }),
    stopMachine: value({ ok: true }),
    suspendMachine: value({ ok: true }),
    restartMachine: value({ ok: true }),
    cordonMachine: value({ ok: true }),
    uncordonMachine: value({ ok: true }),
    waitMachine: value({ ok: true }),
    signalMachine: value({ ok: true }),
    getLease: value({ status: 'success', data: lease }),
    releaseLease: value({ status: 'success', data: { ok: true } }),
    execMachine: value({ exit_code: 3, stdout: 'o', stderr: 'e', stdout_cut: 0, stderr_cut: 0 }),
    listSessions: value([session]),
    getMetadata: value({ a: 'b' }),
    setScale: value({ ...release, plan: [step] }),
    createBuild: () =>
      lines({ kind: 'done', image: IMAGE, size_bytes: 1, build_ms: 1, push_ms: 1 }),
    createRelease: value({ ...release, plan: [step] }),
    createRollback: value({
      release: { ...release, rollback_of: 1 },
      changes: { image: { from: 'a', to: 'b' }, config: ['env.A'], secrets: [] },
    }),
    listReleases: value([release]),
    getRelease: value(release),
    followRelease: () => lines(event),
    appLogs: () =>
      lines(
        { timestamp: AT, machine: ID, region: 'ams', host: 'ams-1', message: 'hello' },
        { timestamp: AT, machine: ID, container: 'c', region: 'ams', host: 'ams-1', message: '' },
      ),
    appAccessLogs: () =>
      lines(
        { timestamp: AT, notice: '1 edge tells of requests from now on' },
        ...['m', null].map((machine) => ({
          ...{ timestamp: AT, region: 'ams', host: 'ams-1', client: '192.0.2.7', method: 'GET' },
          ...{ path: '/', status: 200, bytes_in: 1, bytes_out: 2, duration_ms: 3 },
          ...{ machine, request_id: 'r' },
        })),
      ),
    listSecrets: value([{ name: 'A', digest: 'd', created_at: AT, updated_at: AT }]),
    setSecrets: value({ release }),
    listCertificates: value({ certificates: [summary], total_count: 1 }),
    addAcmeCertificate: value(certificate),
    addCustomCertificate: value(certificate),
    getCertificate: value(certificate),
    checkCertificate: value(certificate),
    deleteCertificate: value(null),
    listTokens: value([token]),
    createToken: value({ ...token, token: 'roost_x' }),
    revokeToken: value({ revoked: [token] }),
    listRegions: value([
      {
        ...{ code: 'ams', name: 'Amsterdam', latitude: 52, longitude: null, hosts: 2 },
        free_memory_mb: 9000,
      },
    ]),
    listHosts: value([
      {
        ...{ id: 'h', name: 'ams-1', region: 'ams', number: 1, status: 'ok' },
        ...{ availability: 'active', public_address: 'p', mesh_address: 'm', cpus: 2 },
        ...{ memory_mb: 9, free_memory_mb: 5, machines: 1, builder: true },
        disk: { path: '/', state: 'ok', bytes: 9, free_bytes: 5 },
        ...{ agent_seen_at: AT, edge_seen_at: null },
      },
    ]),
    imageStore: value({
      ...{ file_system: disk, bytes: 1, uploads: { count: 0, bytes: 0 } },
      repositories: [{ name: 'shop', images: 1, needed: 1, bytes: 1, newest_at: AT }],
      ...{ collectable: { images: 0, bytes: 0 }, last_collection: null },
    }),
    collectImages: value({
      ...{ dry_run: false, bytes: 1, repositories: ['gone'], uploads: 0, file_system: disk },
      images: [{ repository: 'shop', digest: 'd', tags: [], why: 'old' }],
      passed_over: [{ repository: 'shop', why: 'busy' }],
    }),
    whoami: value({
      ...{ name: 'me', actions: ['*'], apps: null, expires_at: null },
      ...{ version: '0.1.0', domain: 'roost.test' },
    }),
    doctor: value({ checked_at: AT, version: '0.1.0', findings: [], usage: [], hosts: [] }),
  })
})
beforeEach(() => {
  for (const name of ['other', 'here'])
    saveContext({ name, url: server.url, token: 't', ca: null }, env())
})
afterAll(async () => {
  await server.close()
  rmSync(folder, { recursive: true, force: true })
})

const argumentsOf = (): Readonly<Record<string, readonly string[]>> => ({
  launch: ['new', '--yes', '--name', 'shop'],
  deploy: ['there', '--image', IMAGE],
  rollback: ['--yes'],
  'releases --follow': ['1'],
  'apps create': ['shop'],
  'apps destroy': ['shop', '--yes'],
  'machine status': [ID],
  'machine start': [ID],
  'machine stop': [ID],
  'machine suspend': [ID],
  'machine resume': [ID],
  'machine restart': [ID],
  'machine wait': [ID],
  'machine cordon': [ID],
  'machine uncordon': [ID],
  'machine destroy': [ID, '--yes'],
  'machine exec': [ID, 'ls'],
  'machine run': ['debian:12'],
  'machine create': ['debian:12'],
  'machine clone': [ID],
  'machine update': [ID, '-e', 'A=1'],
  'machine kill': [ID],
  'machine metadata': [ID],
  'scale count': ['ams=1'],
  'scale vm': ['shared-cpu-2x'],
  'scale memory': ['512mb'],
  'secrets set': ['A=b'],
  'secrets unset': ['A'],
  'certs add': ['www.example.com'],
  'certs show': ['www.example.com'],
  'certs check': ['www.example.com'],
  'certs import': [
    'www.example.com',
    ...['--fullchain', 'CERTIFICATE.pem', '--private-key', 'PRIVATE KEY.pem'],
  ],
  'certs remove': ['www.example.com', '--yes'],
  'tokens create': ['deploy'],
  'tokens revoke': ['ci'],
  'context use': ['other'],
  'context remove': ['other'],
  'auth login': [server.url, '--token', 't'],
  completion: ['bash'],
})

/** They want a host, or a machine to open a session in. Their answers are held to the shapes where these are (`test`). */
const WITH_ENGINES = [
  'up',
  'down',
  'playground up',
  'playground status',
  'playground down',
  'playground fault kill',
  'playground fault restore',
  'playground fault cut',
  'playground fault heal',
  'playground fault delay',
  'playground fault loss',
  'playground fault list',
  'mirror seed',
  'mirror list',
  'sftp get',
  'sftp put',
  'proxy',
]
const HERE = Object.keys(JSON_SHAPES).filter((words) => !WITH_ENGINES.includes(words))

/** It goes on until somebody ends it. */
function interruptAfter({ context, interrupt }: ReturnType<typeof trialTerminal>, lines: number) {
  const { stdout } = context
  const write = stdout.write
  let written = 0
  stdout.write = (text: string) => {
    written += 1
    const done = write.call(stdout, text)
    if (written === lines) interrupt()
    return done
  }
}

async function answerTo(words: string): Promise<string> {
  const terminal = trialTerminal({ cwd: folder, env: { ROOST_APP: 'shop' } })
  const argv = [...words.split(' '), ...(argumentsOf()[words] ?? []), '--json']
  if (words === 'logs --access') interruptAfter(terminal, 2)
  const { code, out, err } = await terminal.run(...argv)
  expect({ code, err: code === 0 ? '' : err }).toEqual({ code: 0, err: '' })
  return out
}

test.each(HERE)('roost %s --json', async (words) => {
  const out = await answerTo(words)
  expect(JSON_SHAPES[words]?.safeParse(JSON.parse(out)).error).toBeUndefined()
})

test.each(Object.keys(JSON_LINES))('roost %s --json, line by line', async (words) => {
  const lines = (await answerTo(words)).trimEnd().split('\n')
  expect(lines).toHaveLength(2)
  for (const line of lines)
    expect(JSON_LINES[words]?.safeParse(JSON.parse(line)).error).toBeUndefined()
})

test('every command that has --json has a shape, and every shape is that of such a command', async () => {
  const found = new Set<string>()
  const look = (command: Command, words: readonly string[]) => {
    if (command.options.some(({ long }) => long === '--json')) found.add(words.join(' '))
    for (const one of command.commands) look(one, [...words, one.name()])
  }
  const { context } = trialTerminal({ cwd: folder })
  for (const entry of COMMANDS.flatMap(({ commands }) => commands)) {
    const parent = new Command()
    ;(await entry.load()).register(parent, context)
    const words = entry.words.filter((word) => word !== undefined)
    for (const command of parent.commands) look(command, words)
  }
  const shaped = [...Object.keys(JSON_SHAPES), ...Object.keys(JSON_LINES)].map(
    (words) => words.split(' --')[0] ?? '',
  )
  expect([...new Set(shaped)].sort()).toEqual([...found].sort())
})
