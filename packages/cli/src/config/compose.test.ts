import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { withFilesBeside } from './beside-fly-toml.ts'
import { readCompose } from './compose.ts'
import { ConfigError } from './config-error.ts'
import { machineConfigOf } from './machine-config.ts'

const COMPOSE = `
x-env: &env
  LOG: info
services:
  web:
    build: { context: ., dockerfile: Dockerfile.web, args: [VERSION=7] }
    command: ["node", "web.js"]
    environment:
      <<: *env
      PORT: 3000
      PRICE: $$5
    depends_on:
      redis: { condition: service_healthy }
      migrate: { condition: service_completed_successfully }
    ports: ["3000:3000"]
    volumes: [shared:/shared]
  redis:
    image: redis:7
    user: 999
    restart: unless-stopped
    tmpfs: /tmp:size=64m
    stop_grace_period: 1m30s
    healthcheck:
      test: ["CMD", "redis-cli", "ping"]
      interval: 5s
      retries: 5
  migrate:
    image: registry.internal/migrate
    entrypoint: sh -c 'echo hi'
    environment: [A=1, "B=x=y"]
    depends_on: [redis]
    restart: on-failure:3
volumes:
  shared:
`

test('a compose file of one built service and its helpers is the containers of a machine', () => {
  const compose = readCompose(COMPOSE, 'compose.yaml')
  expect(compose).toMatchObject({
    built: 'web',
    build: { dockerfile: 'Dockerfile.web', args: { VERSION: '7' } },
    volumes: [{ name: 'shared' }, { name: 'redis-tmpfs-1', storage_type: 'memory' }],
  })
  expect(compose.containers).toEqual([
    {
      name: 'web',
      cmd: ['node', 'web.js'],
      env: { LOG: 'info', PORT: '3000', PRICE: '$5' },
      depends_on: [
        { name: 'redis', condition: 'healthy' },
        { name: 'migrate', condition: 'exited_successfully' },
      ],
      mounts: [{ name: 'shared', path: '/shared' }],
    },
    {
      name: 'redis',
      image: 'redis:7',
      user: '999',
      restart: { policy: 'always' },
      kill_timeout: 90_000,
      mounts: [{ name: 'redis-tmpfs-1', path: '/tmp' }],
      healthchecks: [
        {
          name: 'healthcheck',
          kind: 'readiness',
          interval: 5000,
          timeout: 30_000,
          grace_period: 0,
          failure_threshold: 5,
          exec: { command: ['redis-cli', 'ping'] },
        },
      ],
    },
    {
      name: 'migrate',
      image: 'registry.internal/migrate',
      entrypoint: ['sh', '-c', 'echo hi'],
      env: { A: '1', B: 'x=y' },
      depends_on: [{ name: 'redis' }],
      restart: { policy: 'on-failure', retries: 3 },
    },
  ])
  expect(compose.warnings).toEqual([
    'compose.yaml:15: services.web.ports does nothing here: what strangers reach is said by the services of fly.toml',
  ])
})

describe('what can not be done is refused by its key and line', () => {
  test.each([
    ['services:\n  a:\n    image: x\n    privileged: true', '4: unknown key services.a.privileged'],
    [
      'services:\n  a:\n    image: x\n    network_mode: host',
      '4: unknown key services.a.network_mode',
    ],
    ['services:\n  a:\n    build: ./a', '3: services.a.build can only be "." here, not "./a"'],
    [
      'services:\n  a:\n    build: .\n  b:\n    build: .',
      '5: services a and b are both built: one can be, the others name an image',
    ],
    ['services:\n  a:\n    user: x', '2: services.a needs image, or build'],
    [
      'services:\n  a:\n    image: x\n    volumes: ["./data:/data"]',
      '4: services.a.volumes mounts ./data of this machine',
    ],
    [
      'services:\n  a:\n    image: x\n    environment: [HOME]',
      '4: services.a.environment takes HOME from this machine',
    ],
    [
      `services:\n  a:\n    image: x\n    environment:\n      B: "\${C}"`,
      '4: services.a.environment has B=$',
    ],
    [
      'services:\n  a:\n    image: x\n    depends_on:\n      b: { condition: healthy }',
      '4: services.a.depends_on has no condition "healthy"',
    ],
    ['services:\n  a:\n    image: x\n    restart: sometimes', '4: services.a.restart is one of'],
    ['services: [', '1: '],
    ['- a', '1: it is not a table of keys'],
    ['version: "3"', '1: services is missing'],
    ['a: &a [*a]\n', '1: '],
  ])('%j', (content, expected) => {
    try {
      readCompose(content, 'compose.yaml')
      expect('read').toBe('refused')
    } catch (error) {
      if (!(error instanceof ConfigError)) throw error
      expect(
        error.problems.map(({ at, message }) => `${at.line}: ${message}`).join('\n'),
      ).toContain(expected)
    }
  })
})

describe('beside fly.toml', () => {
  let folder = ''
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'roost-cli-'))
  })
  afterEach(() => rmSync(folder, { recursive: true, force: true }))

  test('compose.yaml is found, and the built service is the app', () => {
    writeFileSync(join(folder, 'compose.yaml'), COMPOSE)
    const { config } = withFilesBeside({ build: { compose: {} } }, folder)
    expect(config.build).toMatchObject({ dockerfile: 'Dockerfile.web', args: { VERSION: '7' } })
    const made = machineConfigOf(config)
    expect(made.containers?.map(({ name }) => name)).toEqual(['web', 'redis', 'migrate'])
    expect(made.containers?.[0]).not.toHaveProperty('image')
  })

  test('a compose file in which nothing is built brings its first image', () => {
    writeFileSync(join(folder, 'c.yml'), 'services:\n  proxy:\n    image: nginx:1\n')
    const { config } = withFilesBeside({ build: { compose: { file: 'c.yml' } } }, folder)
    expect(config).toMatchObject({ container: 'proxy', build: { image: 'nginx:1' } })
  })

  test('what is not there, or is said twice, is refused', () => {
    const read = (config: Parameters<typeof withFilesBeside>[0]) => () =>
      withFilesBeside(config, folder)
    expect(read({ build: { compose: {} } })).toThrow('none of compose.yaml')
    expect(read({ build: { compose: { file: 'x.yml' } } })).toThrow('there is no x.yml')
    expect(read({ build: { compose: {} }, containers: [] })).toThrow('both [[containers]] and')
    expect(read({ machine_config: 'x.json' })).toThrow('there is no x.json')
    expect(read({ machine_config: '{' })).toThrow('machine_config is no JSON')
  })

  test('machine_config says what fly.toml has no word for', () => {
    const json = {
      image: 'ignored',
      schedule: 'daily',
      env: { A: '1', B: '1' },
      containers: [
        { name: 'app', image: 'ignored' },
        { name: 'side', image: 'side:1' },
      ],
    }
    writeFileSync(join(folder, 'machine.json'), JSON.stringify(json))
    const { config, base } = withFilesBeside(
      { machine_config: 'machine.json', env: { B: '2' } },
      folder,
    )
    expect(machineConfigOf(config, { base })).toMatchObject({
      schedule: 'daily',
      env: { A: '1', B: '2' },
      containers: [{ name: 'app' }, { name: 'side', image: 'side:1' }],
    })
    expect(base.containers?.[0]).not.toHaveProperty('image')
  })
})
