import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
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
    env: { ROOST_API_URL: server.url, ROOST_API_TOKEN: 'token' },
  })
}

const token = (id: string, change: object = {}) => ({
  id,
  kind: 'deploy',
  name: 'ci',
  apps: ['shop'],
  state: 'active',
  created_at: '2026-01-01T00:00:00.000Z',
  created_by: 'administrator',
  parent: 'aaaaaaaaaaaa',
  expires_at: '2026-02-01T10:20:30.000Z',
  last_used_at: null,
  revoked_at: null,
  ...change,
})

describe('tokens create', () => {
  const answers: TrialAnswers = {
    createToken: () => ({ value: { ...token('b0b0b0b0b0b0'), token: 'roost_secret' } }),
  }

  test('prints the token alone, and the rest where no pipe takes it', async () => {
    const terminal = await terminalOn(answers)
    const made = await terminal.run(
      ...['tokens', 'create', 'deploy', '-a', 'shop', '--name', 'ci', '--expiry', '720h'],
    )
    expect(made).toEqual({
      code: 0,
      out: 'roost_secret\n',
      err: 'A deploy token "ci" (b0b0b0b0b0b0) for shop, until 2026-02-01T10:20:30.000Z. It is not shown again.\n',
    })
    expect(server?.of('createToken')[0]?.body).toEqual({
      kind: 'deploy',
      app: 'shop',
      name: 'ci',
      expires_in: 2_592_000,
    })
  })

  test('a deploy token is for the app of the folder; what reads is so only when told', async () => {
    writeFileSync(join(folder, 'fly.toml'), 'app = "shop"\n')
    const terminal = await terminalOn(answers)
    await terminal.run('tokens', 'create', 'deploy', '-x', 'never')
    await terminal.run('tokens', 'create', 'readonly')
    await terminal.run('tokens', 'create', 'readonly', '-a', 'blog')
    expect(server?.calls.map(({ body }) => body)).toEqual([
      { kind: 'deploy', app: 'shop', expires_in: null },
      { kind: 'readonly' },
      { kind: 'readonly', app: 'blog' },
    ])
  })

  test.each<[string[], string]>([
    [['root'], '"root" is no kind of token: there is admin, deploy, readonly'],
    [['deploy'], 'a deploy token is for one app, and none is named'],
    [['admin', '-a', 'shop'], 'an administrator token is for everything'],
    [['readonly', '-x', 'soon'], '"soon" is no time'],
  ])('%j is refused', async (argv, text) => {
    const { code, err } = await (await terminalOn(answers)).run('tokens', 'create', ...argv)
    expect(code).toBe(2)
    expect(err).toContain(text)
    expect(server?.calls).toEqual([])
  })

  test('one that is too wide is the server’s to refuse', async () => {
    const error = 'this token is for shop, not for blog'
    const terminal = await terminalOn({
      createToken: () => ({ refusal: { status: 403, code: 'forbidden', error } }),
    })
    const { code, err } = await terminal.run('tokens', 'create', 'deploy', '-a', 'blog')
    expect(code).toBe(4)
    expect(err).toContain(error)
  })
})

test('tokens list says who may what until when', async () => {
  const terminal = await terminalOn({
    listTokens: () => ({
      value: [
        token('aaaaaaaaaaaa', {
          kind: 'admin',
          name: 'administrator',
          apps: null,
          expires_at: null,
          created_by: null,
        }),
        token('b0b0b0b0b0b0'),
      ],
    }),
  })
  expect(
    (await terminal.run('tokens', 'list')).out,
  ).toBe(`ID            KIND    NAME           APPS  ENDS               LAST USED  MADE BY
aaaaaaaaaaaa  admin   administrator  all   never              never      -
b0b0b0b0b0b0  deploy  ci             shop  2026-02-01T10:20Z  never      administrator
`)
  expect((await terminal.run('tokens', 'list', '-a', 'blog')).out).toBe('No tokens.\n')
})

describe('tokens revoke', () => {
  const all = [
    token('b0b0b0b0b0b0'),
    token('c0c0c0c0c0c0', { name: 'twice' }),
    token('d0d0d0d0d0d0', { name: 'twice' }),
  ]
  const answers: TrialAnswers = {
    listTokens: () => ({ value: all }),
    revokeToken: ({ path }) => ({
      value: {
        revoked: all
          .filter(({ id }) => path.endsWith(id))
          .map((one) => ({ ...one, state: 'revoked' })),
      },
    }),
  }

  test('takes names and ids', async () => {
    const terminal = await terminalOn(answers)
    const { out } = await terminal.run('tokens', 'revoke', 'ci', 'c0c0c0c0c0c0', '--keep-made')
    expect(out).toBe(
      'Revoked b0b0b0b0b0b0 (deploy, "ci")\nRevoked c0c0c0c0c0c0 (deploy, "twice")\n',
    )
    expect(server?.of('revokeToken').map(({ query }) => query)).toEqual([
      { keep_made: 'true' },
      { keep_made: 'true' },
    ])
  })

  test('asks which of two, and ends none when one of several is not known', async () => {
    const terminal = await terminalOn(answers)
    expect((await terminal.run('tokens', 'revoke', 'twice')).err).toContain(
      'there are 2 tokens called "twice": say which by its id',
    )
    const { code, err } = await terminal.run('tokens', 'revoke', 'ci', 'cii')
    expect(code).toBe(2)
    expect(err).toContain('Try: roost tokens revoke b0b0b0b0b0b0   # "ci"')
    expect(server?.of('revokeToken')).toEqual([])
  })
})
