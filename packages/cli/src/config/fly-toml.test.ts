import { describe, expect, test } from 'vitest'
import { ConfigError } from './config-error.ts'
import { readFlyToml } from './fly-toml.ts'

/** The complaints about a file, as `line:column message`. */
function problems(content: string): string[] {
  try {
    readFlyToml(content)
    return []
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error
    return error.problems.map(({ at, message }) =>
      `${at.line}:${at.column} ${message}`.replace(/"shared-cpu-1x", .*"performance-16x"/, 'SIZES'),
    )
  }
}

describe('mistakes are told with their place', () => {
  test.each<[string, string, string[]]>([
    ['a broken value', 'app = "x"\nport =\n', ['2:7 a value is missing']],
    ['a string without end', 'app = "x\n', ['1:9 Unterminated string constant']],
    ['a section without end', '[build\nimage = "x"\n', ['1:7 the name of a section ends with ]']],
    ['a key twice', 'app = "x"\napp = "y"\n', ['2:1 this key is there twice']],
    [
      'a mistyped key',
      'primary_regoin = "ams"',
      ['1:1 unknown key primary_regoin: did you mean primary_region?'],
    ],
    [
      'a dash for an underscore',
      'kill-timeout = 5',
      ['1:1 unknown key kill-timeout: did you mean kill_timeout?'],
    ],
    [
      'a mistyped key in a section',
      '[http_service]\ninternal_prt = 80',
      ['2:1 unknown key http_service.internal_prt: did you mean internal_port?'],
    ],
    [
      'a key of another section',
      'app = "x"\ninternal_port = 80',
      ['2:1 unknown key internal_port: internal_port belongs in [http_service] or [services]'],
    ],
    [
      'a key of the top in a section',
      '[build]\nkill_signal = "SIGTERM"',
      [
        '2:1 unknown key build.kill_signal: kill_signal belongs in the top of the file or [http_service.machine_checks] or [services.machine_checks]',
      ],
    ],
    ['a key that nobody knows', '[deploy]\nfrobnicate = 1', ['2:1 unknown key deploy.frobnicate']],
    [
      'a mistyped section',
      '[http_servise]\n',
      ['1:2 unknown key http_servise: did you mean http_service?'],
    ],
    [
      'a mistyped key in a check of a service',
      '[[services]]\nprotocol = "tcp"\n[[services.ports]]\nport = 80\nhandlers = ["http"]\n[[services.http_checks]]\npth = "/"',
      ['7:1 unknown key services[0].http_checks[0].pth: did you mean path?'],
    ],
    [
      'a mistyped key in what does nothing yet',
      '[[mounts]]\nsorce = "data"',
      ['2:1 unknown key mounts[0].sorce: did you mean source?'],
    ],
    ['a wrong type', 'app = 7', ['1:7 app is a string, not 7']],
    [
      'a port out of range',
      '[http_service]\ninternal_port = 70000',
      ['2:17 http_service.internal_port is a whole number from 1 to 65535, not 70000'],
    ],
    [
      'a wrong duration',
      'kill_timeout = "5 parsecs"',
      ['1:16 kill_timeout is a duration such as "10s" or a number of seconds, not "5 parsecs"'],
    ],
    [
      'a wrong size',
      '[[vm]]\nmemory = "much"',
      [
        '2:10 vm[0].memory is a size such as "512mb" or "1gb", or a number of megabytes, not "much"',
      ],
    ],
    [
      'a size that does not exist',
      '[[vm]]\nsize = "shared-cpu-3x"',
      ['2:8 vm[0].size is one of SIZES: did you mean "shared-cpu-1x"?'],
    ],
    [
      'a word that is not one of the choice',
      '[http_service.concurrency]\ntype = "request"',
      [
        '2:8 http_service.concurrency.type is one of "connections", "requests": did you mean "requests"?',
      ],
    ],
    [
      'a signal that stops nothing',
      'kill_signal = "SIGSTOP"',
      [expect.stringMatching(/^1:15 kill_signal is one of "SIGINT"/) as unknown as string],
    ],
    [
      'an environment name of the platform',
      '[env]\nFLY_REGION = "ams"',
      ['2:1 env.FLY_REGION: names that start with FLY_ are set by the platform'],
    ],
    [
      'a check without type',
      '[http_service]\n[checks.up]\npath = "/"',
      ['2:9 checks.up needs type = "http" or "tcp"'],
    ],
    [
      'a check without port or http_service',
      '[checks.up]\ntype = "tcp"',
      ['1:9 checks.up needs a port, since there is no [http_service]'],
    ],
    [
      'a service without protocol',
      '[[services]]\ninternal_port = 80',
      ['1:1 services[0] needs protocol = "tcp" or "udp"'],
    ],
    [
      'ports that no app can have',
      '[[services]]\nprotocol = "tcp"\n[[services.ports]]\nport = 22\n[[services.ports]]\nport = 80\n[[services]]\nprotocol = "udp"\n[[services.ports]]\nport = 5060\nhandlers = ["tls"]\n[[services.ports]]\nstart_port = 5',
      [
        '1:1 services[0].ports[0]: port 22 belongs to SSH of the hosts themselves: choose another',
        '1:1 services[0].ports[1]: port 80 is shared by all apps and speaks HTTP: use the handler http, or another port',
        '7:1 services[1].ports[0]: udp has no handlers: leave them out',
        '7:1 services[1].ports[1] needs port, or start_port and end_port',
      ],
    ],
    [
      'a process with a quote that does not end',
      '[processes]\nweb = "node \'x"',
      ['2:1 processes.web has a quote that does not end'],
    ],
    [
      'two spellings of one section',
      '[[vm]]\nsize = "shared-cpu-1x"\n[[compute]]\nsize = "shared-cpu-1x"',
      ['3:3 compute is an older name of vm: use one of them'],
    ],
    [
      'several at once, in the order of their lines',
      'app = 7\n[env]\nFLY_X = "1"\n[build]\ndockerfil = "D"',
      [
        '1:7 app is a string, not 7',
        '3:1 env.FLY_X: names that start with FLY_ are set by the platform',
        '5:1 unknown key build.dockerfil: did you mean dockerfile?',
      ],
    ],
  ])('%s', (_, content, expected) => {
    expect(problems(content)).toEqual(expected)
  })

  test('the message of the error has file, line and column', () => {
    expect(() => readFlyToml('ap = "x"', 'web/fly.toml')).toThrow(
      'web/fly.toml:1:1: unknown key ap: did you mean app?',
    )
  })
})

test('folders of files that edges serve have both their ends', () => {
  expect(() => readFlyToml('[[statics]]\nguest_path = "public"\nurl_prefix = "/a"')).toThrow(
    'statics[0].guest_path is the absolute path of a folder in the image',
  )
  expect(() => readFlyToml('[[statics]]\nguest_path = "/public"')).toThrow(
    'statics[0].url_prefix is the beginning of a path, such as "/assets"',
  )
})

describe('keys that do nothing yet are named in one warning', () => {
  test.each<[string, string, string[]]>([
    ['nothing idle', 'app = "x"\n[http_service]\ninternal_port = 80', []],
    [
      'several keys',
      'swap_size_mb = 512\n[deploy]\nrelease_command = "migrate"\n[[mounts]]\nsource = "data"\ndestination = "/data"',
      [
        'fly.toml: these keys do nothing yet: swap_size_mb (line 1), deploy.release_command (line 3: it is not run), mounts (line 4: what is written there is lost with the machine)',
      ],
    ],
    [
      'sleep',
      '[http_service]\nauto_stop_machines = "suspend"\nauto_start_machines = true\nmin_machines_running = 0',
      [
        'fly.toml: these keys do nothing yet: http_service.auto_stop_machines (line 2: machines do not sleep), http_service.auto_start_machines (line 3), http_service.min_machines_running (line 4)',
      ],
    ],
    [
      'what edges do not do with requests',
      '[http_service]\n[http_service.http_options]\ncompress = true\nheaders_read_timeout = 5',
      [
        'fly.toml: this key does nothing yet: http_service.http_options.headers_read_timeout (line 4)',
      ],
    ],
    [
      'empty lists of old files',
      '[experimental]\nallowed_public_ports = []\nauto_rollback = true\n',
      [],
    ],
    [
      'values brought into their range',
      'kill_timeout = "10m"\n[[http_service.checks]]\ninterval = 500\ntimeout = "2m"',
      [
        'fly.toml:1: kill_timeout is longer than the 300 s that a machine may take to stop: 300 s are used',
        'fly.toml:3: http_service.checks[0].interval is shorter than a second: a second is used',
        'fly.toml:4: http_service.checks[0].timeout is longer than a minute: a minute is used',
      ],
    ],
  ])('%s', (_, content, expected) => {
    expect(readFlyToml(content).warnings).toEqual(expected)
  })
})

describe('older spellings mean the same', () => {
  test.each<[string, string, string]>([
    ['compute', '[[compute]]\nmemory = 512', '[[vm]]\nmemory = 512'],
    ['computes', '[[computes]]\nmemory = "512mb"', '[[vm]]\nmemory = 512'],
    ['a single table of vm', '[vm]\ncpus = 2', '[[vm]]\ncpus = 2'],
    [
      'mount',
      '[mount]\nsource = "d"\ndestination = "/d"',
      '[[mounts]]\nsource = "d"\ndestination = "/d"',
    ],
    ['metric', '[metric]\nport = 9091', '[[metrics]]\nport = 9091'],
    ['build_target', '[build]\nbuild_target = "prod"', '[build]\nbuild-target = "prod"'],
    [
      'a list of processes',
      '[[processes]]\nname = "web"\ncommand = "serve"',
      '[processes]\nweb = "serve"',
    ],
    ['numbers in env', '[env]\nPORT = 8080\nDEBUG = true', '[env]\nPORT = "8080"\nDEBUG = "true"'],
    ['a list of env', '[[env]]\nA = "1"\n[[env]]\nB = 2', '[env]\nA = "1"\nB = "2"'],
    [
      'a single service',
      '[services]\nprotocol = "tcp"\ninternal_port = 80',
      '[[services]]\nprotocol = "tcp"\ninternal_port = 80',
    ],
    [
      'concurrency in a string',
      '[[services]]\nprotocol = "tcp"\nconcurrency = "20,25"',
      '[[services]]\nprotocol = "tcp"\nconcurrency = { type = "requests", soft_limit = 20, hard_limit = 25 }',
    ],
    [
      'a port in a string',
      '[[services]]\nprotocol = "tcp"\n[[services.ports]]\nport = "80"\nhandlers = ["http"]',
      '[[services]]\nprotocol = "tcp"\n[[services.ports]]\nport = 80\nhandlers = ["http"]',
    ],
    [
      'a list of checks',
      '[http_service]\n[[checks]]\nname = "up"\ntype = "tcp"',
      '[http_service]\n[checks.up]\ntype = "tcp"',
    ],
    [
      'kill_timeout under experimental',
      '[experimental]\nkill_timeout = 7',
      'kill_timeout = 7\n[experimental]',
    ],
    [
      'metrics under experimental',
      '[experimental]\nmetrics_port = 9091\nmetrics_path = "/metrics"',
      '[[metrics]]\nport = 9091\npath = "/metrics"\n[experimental]',
    ],
    [
      'inline tables',
      'http_service = { internal_port = 80 }',
      '[http_service]\ninternal_port = 80',
    ],
    ['dotted keys', 'http_service.internal_port = 80', '[http_service]\ninternal_port = 80'],
  ])('%s', (_, old, today) => {
    expect(readFlyToml(old).config).toEqual(readFlyToml(today).config)
  })
})
