import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import {
  startTrialServer,
  type TrialAnswers,
  type TrialServer,
  trialTerminal,
} from '../session/trial-server.ts'

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

async function terminalOn(answers: TrialAnswers) {
  server = await startTrialServer(answers)
  return trialTerminal({
    cwd: folder,
    env: { ROOST_API_URL: server.url, ROOST_API_TOKEN: 'token', ROOST_APP: 'shop' },
  })
}

const AT = '2026-01-01T10:20:30.000Z'
const name = 'www.example.com'
const missing = {
  ...{ type: 'CNAME', name, state: 'missing', needed: true, found: [] },
  wanted: ['shop.roost.test', '192.0.2.1', '192.0.2.2'],
  why: 'it has no address',
}
const reply = (change: object) => ({
  hostname: name,
  status: 'pending_validation',
  acme_requested: true,
  acme_directory: 'https://acme.test/dir',
  challenge: null,
  certificates: [],
  dns_findings: [missing],
  failure: null,
  configured: false,
  validation: {
    ...{ dns_configured: false, alpn_configured: false, http_configured: false },
    ownership_txt_configured: false,
  },
  dns_requirements: {
    ...{ a: ['192.0.2.1', '192.0.2.2'], aaaa: [], cname: 'shop.roost.test' },
    acme_challenge: { name: `_acme-challenge.${name}`, target: 't' },
    ownership: { name: `_fly-ownership.${name}`, app_value: 'app-shop', org_value: '' },
  },
  validation_errors: [],
  ...change,
})

test('add says which records are to be set, as one would enter them', async () => {
  const terminal = await terminalOn({ addAcmeCertificate: () => ({ value: reply({}) }) })
  const { code, out } = await terminal.run('certs', 'add', 'WWW.example.com')
  expect(code).toBe(0)
  expect(out).toBe(`www.example.com leads to shop.
Set at who keeps your DNS:
  www.example.com  CNAME  shop.roost.test, or A 192.0.2.1 and 192.0.2.2
See how it goes: roost certs check www.example.com -a shop
`)
  expect(server?.of('addAcmeCertificate')[0]?.body).toEqual({ hostname: name })
})

test('add and remove refuse what makes no sense before anything is asked', async () => {
  const terminal = await terminalOn({})
  const challenge = await terminal.run('certs', 'add', name, '--challenge', 'mail')
  expect([challenge.code, challenge.err]).toEqual([2, expect.stringContaining('"mail" is no')])
  const both = await terminal.run('certs', 'remove', name, '--acme', '--custom')
  expect([both.code, both.err]).toEqual([2, expect.stringContaining('leave both out')])
  const key = await terminal.run('certs', 'import', name, '--fullchain', 'x', '--private-key', 'y')
  expect([key.code, key.err]).toEqual([2, expect.stringContaining('--fullchain: x can not be')])
  expect(server?.calls).toEqual([])
})

test('check ends with 1 until all is well, and says what failed and when it is tried again', async () => {
  const failure = {
    ...{ at: AT, host: 'a', times: 2, challenge: 'http-01', why: 'connection refused' },
    next_at: '2026-01-01T10:24:30.000Z',
  }
  let now: object = reply({ failure })
  const terminal = await terminalOn({ checkCertificate: () => ({ value: now }) })
  const bad = await terminal.run('certs', 'check', name)
  expect(bad.code).toBe(1)
  expect(bad.out).toContain(
    'failed    2 times, last at 2026-01-01T10:20Z by http-01: connection refused',
  )
  expect(bad.out).toContain('next try  2026-01-01T10:24Z, or at once: roost certs check')
  expect(bad.out).toContain('www.example.com  CNAME  shop.roost.test, or A 192.0.2.1')
  now = reply({
    status: 'active',
    dns_findings: [{ ...missing, state: 'right' }],
    certificates: [
      {
        ...{ source: 'fly', status: 'active', issuer: 'CN=x', created_at: AT, expires_at: AT },
        ...{ renews_at: AT, fingerprint: 'f', issued: [] },
      },
    ],
  })
  const good = await terminal.run('certs', 'check', name)
  expect(good.code).toBe(0)
  expect(good.out).toContain('issued    by CN=x, until 2026-01-01T10:20Z, renewed from')
})

test('remove asks for the name, and takes nothing away without it', async () => {
  const terminal = await terminalOn({
    getCertificate: () => ({ value: reply({}) }),
    deleteCertificate: () => ({ value: null }),
    deleteCustomCertificate: () => ({ value: null }),
  })
  const unasked = await terminal.run('certs', 'remove', name)
  expect([unasked.code, unasked.err]).toEqual([2, expect.stringContaining('add --yes')])
  expect(server?.of('deleteCertificate')).toEqual([])
  const { out } = await terminal.run('certs', 'remove', name, '--yes')
  expect(out).toBe('www.example.com does not lead to shop any more.\n')
  await terminal.run('certs', 'remove', name, '--custom', '--yes')
  expect(server?.of('deleteCustomCertificate')).toHaveLength(1)
})

const WHOLE = `Take ${name} away from shop: nobody is answered under it any more`
test.each([
  ['--acme', true, [], WHOLE, 'all'],
  ['--acme', true, ['fly'], WHOLE, 'all'],
  ['--acme', true, ['fly', 'custom'], `Order no certificates for ${name} any more`, 'acme'],
  ['--custom', false, ['custom'], WHOLE, 'all'],
  ['--custom', true, ['custom'], `Take the imported certificate of ${name} away`, 'custom'],
] as const)(
  'remove %s, where it is ordered: %s, and there is %j: %s',
  async (option, ordered, sources, asked, removed) => {
    const certificates = sources.map((source) => ({
      ...{ source, status: 'active', issuer: 'CN=x', created_at: AT, expires_at: AT },
      ...{ renews_at: null, fingerprint: 'f', issued: [] },
    }))
    const gone = () => ({ value: null })
    const terminal = await terminalOn({
      getCertificate: () => ({ value: reply({ acme_requested: ordered, certificates }) }),
      deleteCertificate: gone,
      deleteAcmeCertificate: gone,
      deleteCustomCertificate: gone,
    })
    const unasked = await terminal.run('certs', 'remove', name, option)
    expect(unasked.err).toContain(`${asked} needs a confirmation`)
    const { out } = await terminal.run('certs', 'remove', name, option, '--yes', '--json')
    expect(JSON.parse(out)).toEqual({ hostname: name, removed })
    const routes = {
      all: 'deleteCertificate',
      acme: 'deleteAcmeCertificate',
      custom: 'deleteCustomCertificate',
    } as const
    expect(server?.calls.map(({ route }) => route)).toEqual([
      'getCertificate',
      'getCertificate',
      routes[removed],
    ])
  },
)

test.each([
  [name, name],
  ['*.example.com', "'*.example.com'"],
])(
  'a name that another app has is refused with the command that makes it free: %s',
  async (taken, typed) => {
    const error = `${taken} belongs to app blog`
    const terminal = await terminalOn({
      addAcmeCertificate: () => ({ refusal: { status: 422, code: 'name_taken', error } }),
    })
    const { code, err } = await terminal.run('certs', 'add', name)
    expect(code).toBe(1)
    expect(err).toContain('www.example.com leads to another app')
    expect(err).toContain(`roost certs remove ${typed} -a blog`)
  },
)
