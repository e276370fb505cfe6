import { describe, expect, test } from 'vitest'
import { ConfigError } from './config-error.ts'
import { groupNames, readFlyToml } from './fly-toml.ts'
import { machineConfigOf } from './machine-config.ts'

const localFile = (path: string) => Buffer.from(`content of ${path}`).toString('base64')
const made = (content: string, group?: string) => {
  const { config } = readFlyToml(content)
  return machineConfigOf(config, { localFile, ...(group === undefined ? {} : { group }) })
}
function problems(content: string): string[] {
  try {
    readFlyToml(content)
  } catch (error) {
    if (error instanceof ConfigError)
      return error.problems.map(({ at, message }) => `${at.line}: ${message}`)
    throw error
  }
  return []
}

describe('process groups', () => {
  const content = `
[processes]
worker = "node worker.js --queue 'a b'"
web = "node web.js"
[http_service]
internal_port = 3000
processes = ["web"]
[[vm]]
memory = "512mb"
[[vm]]
memory = "1gb"
processes = ["worker"]
[[restart]]
policy = "always"
[[files]]
guest_path = "/etc/queue"
raw_value = "q"
processes = ["worker"]
`
  test('have a command, a size and sections of their own', () => {
    expect(groupNames(readFlyToml(content).config)).toEqual(['web', 'worker'])
    expect(made(content, 'worker')).toMatchObject({
      init: { cmd: ['node', 'worker.js', '--queue', 'a b'] },
      env: { FLY_PROCESS_GROUP: 'worker' },
      metadata: { fly_process_group: 'worker' },
      services: [],
      guest: { memory_mb: 1024 },
      files: [{ guest_path: '/etc/queue', raw_value: 'cQ==' }],
    })
    const web = made(content)
    expect(web).toMatchObject({
      init: { cmd: ['node', 'web.js'] },
      guest: { memory_mb: 512 },
      restart: { policy: 'always' },
    })
    expect(web.services).toHaveLength(1)
    expect(web.files).toBeUndefined()
    // What names no group is for the default group.
    expect(made(content, 'worker').restart).toBeUndefined()
  })

  test('that are named and are not there are a mistake', () => {
    expect(problems('[processes]\nweb = "a"\n[[vm]]\nmemory = 512\nprocesses = ["wbe"]')).toEqual([
      '3: vm: there is no process group "wbe": did you mean "web"?',
    ])
    expect(problems('[processes]\n"a b" = "a"')[0]).toContain('2: processes.a b: a process group')
  })
})

test('files come from beside fly.toml, from fly.toml or from secrets', () => {
  const content = `
[[files]]
guest_path = "/a"
local_path = "a.conf"
mode = 0o600
[[files]]
guest_path = "/b"
raw_value = "é"
[[files]]
guest_path = "/c"
secret_name = "CERT"
`
  expect(made(content).files).toEqual([
    { guest_path: '/a', raw_value: localFile('a.conf'), mode: 0o600 },
    { guest_path: '/b', raw_value: Buffer.from('é').toString('base64') },
    { guest_path: '/c', secret_name: 'CERT' },
  ])
  expect(problems('[[files]]\nguest_path = "a"\nraw_value = "x"\nsecret_name = "y"')).toEqual([
    '1: files[0].guest_path is the absolute path in the machine',
    '1: files[0] needs one of local_path, raw_value and secret_name',
  ])
})

describe('containers', () => {
  const content = `
[processes]
app = "serve"
[[containers]]
name = "redis"
image = "redis:7"
cmd = "redis-server --save ''"
restart = { policy = "always" }
mounts = [{ name = "data", path = "/data" }]
[[containers.healthchecks]]
interval = "5s"
tcp = { port = 6379 }
[[containers]]
name = "app"
depends_on = [{ name = "redis", condition = "healthy" }]
env = { REDIS = "localhost:6379" }
kill_timeout = 10
mounts = [{ name = "shared", path = "/shared" }]
[[volumes]]
name = "shared"
storage_type = "memory"
size = "64mb"
`
  test('run beside the app, which has the built image and the command of its group', () => {
    expect(made(content)).toMatchObject({
      containers: [
        {
          name: 'redis',
          image: 'redis:7',
          cmd: ['redis-server', '--save', ''],
          restart: { policy: 'always' },
          healthchecks: [{ name: 'check-1', interval: 5, tcp: { port: 6379 } }],
          mounts: [{ name: 'data', path: '/data' }],
        },
        {
          name: 'app',
          cmd: ['serve'],
          env: { REDIS: 'localhost:6379' },
          depends_on: [{ name: 'redis', condition: 'healthy' }],
          stop: { timeout: '10000ms' },
        },
      ],
      volumes: [
        { name: 'shared', temp_dir: { storage_type: 'memory', size_mb: 64 } },
        { name: 'data', temp_dir: { storage_type: 'disk' } },
      ],
    })
    expect(made(content).containers?.[1]).not.toHaveProperty('image')
  })

  test('the app comes first where nothing more is said of it', () => {
    expect(made('[[containers]]\nname = "redis"\nimage = "redis:7"').containers).toEqual([
      { name: 'app' },
      { name: 'redis', image: 'redis:7' },
    ])
    expect(made('app = "x"')).not.toHaveProperty('containers')
  })

  test.each([
    ['[[containers]]\nimage = "a"', '1: containers[0] needs a name'],
    ['[[containers]]\nname = "b"', '1: containers[0] needs an image; the one that is built here'],
    ['[[containers]]\nname = "b"\nimage = "a"\ndepends_on = [{ name = "c" }]', 'no container "c"'],
    [
      '[[containers]]\nname = "b"\nimage = "a"\n[[containers]]\nname = "b"\nimage = "a"',
      '4: containers[1]: there are two containers "b"',
    ],
    [
      '[[containers]]\nname = "b"\nimage = "a"\nhealthchecks = [{ name = "x" }]',
      'healthchecks[0] needs one of http, tcp and exec',
    ],
    [
      '[[containers]]\nname = "b"\nimagee = "a"',
      '3: unknown key containers[0].imagee: did you mean image?',
    ],
  ])('%j is refused', (text, message) => {
    expect(problems(text).join('\n')).toContain(message)
  })
})
