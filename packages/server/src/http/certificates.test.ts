import type { CertificateReply } from '@roost/api'
import type { DnsFacts } from '@roost/core'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { trialCertificate } from '../certificate/trial-certificate.ts'
import { openTrialApi, type TrialApi } from './trial-api.ts'

const NOTHING: DnsFacts = { a: [], aaaa: [], cname: [], challengeCname: [], ownership: [] }
let facts: DnsFacts
let api: TrialApi
beforeEach(async () => {
  facts = NOTHING
  api = await openTrialApi({
    acme: { directory: 'https://acme.test/dir', email: null, ca: null },
    lookUpName: async () => facts,
  })
  await api.call('POST', '/v1/apps', { app_name: 'blog', org_slug: 'personal' })
})
afterEach(() => api.close())

const URL = '/v1/apps/shop/certificates'
const add = (hostname: string, app = 'shop', more: object = {}) =>
  api.call('POST', `/v1/apps/${app}/certificates/acme`, { hostname, ...more })
type Listed = { readonly certificates: readonly object[]; readonly total_count: number }
const list = async (app = 'shop') =>
  (await api.call<Listed>('GET', `/v1/apps/${app}/certificates`)).body

describe('names of people’s own', () => {
  test('lead to one app, and are told to edges with what is to be done', async () => {
    const { status, body } = await add('WWW.Example.com')
    expect(status).toBe(201)
    expect(body).toMatchObject({
      hostname: 'www.example.com',
      status: 'pending_validation',
      configured: false,
      acme_requested: true,
      dns_requirements: {
        a: ['192.0.2.1', '192.0.2.2', '192.0.2.3'],
        cname: 'shop.roost.test',
        acme_challenge: {
          name: '_acme-challenge.www.example.com',
          target: 'www.example.com._acme.roost.test',
        },
        ownership: { name: '_fly-ownership.www.example.com', app_value: 'app-shop' },
      },
    })
    const heard = await api.deps.store.read((reader) =>
      reader.db.selectFrom('records').selectAll().where('kind', '=', 'hostname').execute(),
    )
    expect(heard.map(({ id, audience }) => [id, audience])).toEqual([['www.example.com', 'edge']])
    expect((await list()).certificates).toMatchObject([{ hostname: 'www.example.com' }])
    expect((await list('blog')).total_count).toBe(0)
  })

  test('are refused by name when another app has them, and given again to their own', async () => {
    await add('www.example.com')
    const taken = await add('www.example.com', 'blog')
    expect([taken.status, taken.body.code]).toEqual([422, 'name_taken'])
    expect(taken.body.error).toBe('www.example.com belongs to app shop')
    const other = await api.call(
      'POST',
      `${URL.replace('shop', 'blog')}/acme`,
      { hostname: 'www.example.com' },
      { authorization: 'Bearer shop' },
    )
    expect(other.status).toBe(403)
    expect((await add('www.example.com')).status).toBe(201)
    await api.call('DELETE', `${URL}/www.example.com`)
    expect((await add('www.example.com', 'blog')).status).toBe(201)
  })

  test.each([
    ['shop.roost.test', 'have their certificate already'],
    ['localhost', 'no dot'],
    ['192.0.2.1', 'an address'],
  ])('%s can not be one', async (hostname, why) => {
    const { status, body } = await add(hostname)
    expect([status, body.error]).toEqual([400, expect.stringContaining(why)])
  })

  test('a wildcard is proven by DNS alone', async () => {
    const refused = await add('*.example.com', 'shop', { challenge: 'http-01' })
    expect([refused.status, refused.body.error]).toEqual([400, expect.stringContaining('dns-01')])
    expect((await add('*.example.com')).status).toBe(201)
    const shown = await api.call<CertificateReply>('GET', `${URL}/%2A.example.com`)
    expect(shown.body.hostname).toBe('*.example.com')
  })

  test('below a wildcard are its app’s alone, but those that another app had before stay', async () => {
    await add('old.example.com', 'blog')
    expect((await add('*.example.com')).status).toBe(201)
    const taken = await add('login.example.com', 'blog')
    expect([taken.status, taken.body.code]).toEqual([422, 'name_taken'])
    expect(taken.body.error).toBe('*.example.com belongs to app shop')
    expect((await list('blog')).certificates).toMatchObject([{ hostname: 'old.example.com' }])
    for (const [name, app] of [
      ['old.example.com', 'blog'],
      ['login.example.com', 'shop'],
      ['example.com', 'blog'],
      ['a.b.example.com', 'blog'],
    ] as const)
      expect((await add(name, app)).status).toBe(201)
  })

  test('go with their app', async () => {
    await add('www.example.com')
    await api.call('DELETE', '/v1/apps/shop')
    expect((await add('www.example.com', 'blog')).status).toBe(201)
  })

  test('are not ordered where nobody has chosen an authority', async () => {
    await api.close()
    api = await openTrialApi()
    const { status, body } = await add('www.example.com')
    expect([status, body.error]).toEqual([422, expect.stringContaining('roost up --acme-email')])
  })
})

describe('a check', () => {
  test('says which record is missing or wrong, and asks the edges to try now', async () => {
    await add('www.example.com')
    await api.clock.advance(5000)
    facts = { ...NOTHING, a: ['203.0.113.9'] }
    const { body } = await api.call<CertificateReply>('POST', `${URL}/www.example.com/check`)
    expect(body.dns_findings[0]).toMatchObject({
      type: 'A',
      name: 'www.example.com',
      state: 'wrong',
      found: ['203.0.113.9'],
    })
    expect(body.validation_errors[0]).toMatchObject({
      code: 'a_wrong',
      remediation: 'A www.example.com → shop.roost.test or 192.0.2.1 or 192.0.2.2 or 192.0.2.3',
    })
    const record = await api.deps.store.read((reader) =>
      reader.db.selectFrom('hostnames').select('value').executeTakeFirstOrThrow(),
    )
    expect(JSON.parse(record.value).askedAt).toBe(api.clock.now())
    facts = { ...NOTHING, a: ['192.0.2.2'], cname: ['shop.roost.test'] }
    const right = await api.call<CertificateReply>('POST', `${URL}/www.example.com/check`)
    expect(right.body.validation).toMatchObject({ http_configured: true, dns_configured: false })
    expect(right.body.validation_errors).toEqual([])
  })

  test('of a name that is not the app’s finds nothing', async () => {
    await add('www.example.com')
    for (const url of [
      `${URL}/no.example/check`,
      '/v1/apps/blog/certificates/www.example.com/check',
    ])
      expect((await api.call('POST', url)).status).toBe(404)
  })
})

describe('an imported certificate', () => {
  test('waits until DNS says whose the name is, and goes alone', async () => {
    const { fullchain, key } = await trialCertificate(['www.example.com'], { days: 30_000 })
    const body = { hostname: 'www.example.com', fullchain, private_key: key }
    // It is made now, which is not what the clock of this trial says.
    await api.clock.advance(Date.now() + 3_600_000 - api.clock.now())
    const imported = await api.call('POST', `${URL}/custom`, body)
    expect([imported.status, imported.body.status]).toEqual([201, 'pending_ownership'])
    facts = { ...NOTHING, ownership: ['app-shop'] }
    const checked = await api.call<CertificateReply>('POST', `${URL}/www.example.com/check`)
    expect(checked.body).toMatchObject({
      status: 'active',
      configured: true,
      acme_requested: false,
    })
    expect(checked.body.certificates).toMatchObject([
      { source: 'custom', renews_at: null, issued: [{ type: 'ecdsa' }] },
    ])
    const stored = await api.deps.store.read((reader) =>
      reader.db.selectFrom('certificates').selectAll().execute(),
    )
    const text = JSON.stringify(stored)
    expect(text).not.toContain('PRIVATE')
    expect(Object.keys(JSON.parse(stored[0]?.value ?? '').sealedKeys)).toHaveLength(3)
    await add('www.example.com')
    await api.call('DELETE', `${URL}/www.example.com/custom`)
    expect((await list()).certificates).toMatchObject([
      { acme_requested: true, has_custom_certificate: false },
    ])
    await api.call('DELETE', `${URL}/www.example.com/acme`)
    expect((await list()).total_count).toBe(0)
  })
})
