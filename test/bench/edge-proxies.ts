import { type ChildProcess, spawn } from 'node:child_process'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { run } from '../e2e/terminal.ts'

/** A reverse proxy before the one machine that answers, with HTTP and HTTPS. */
export interface ReverseProxy {
  readonly name: string
  /** `http://…`, `https://…`, each without a path. */
  readonly http: string
  readonly https: string
  /** Processes that do its work, as they are now; their children are counted with them. */
  pids(): readonly number[]
}

export interface ProxyPlan {
  readonly netns: string
  readonly folder: string
  /** Address and port of the machine. */
  readonly machine: string
  readonly hostname: string
  /** Certificate and key in one file. */
  readonly certificate: string
  /** Processors that each may use, as ours does. */
  readonly threads: number
  /** As the edge renders it. */
  readonly rendered: string
}

const AT = '127.0.0.1'
const proxyAt = (name: string, child: ChildProcess, port: number): ReverseProxy => ({
  ...{ name, http: `http://${AT}:${port}`, https: `https://${AT}:${port + 1}` },
  pids: () => [child.pid ?? 0],
})

/** All that the edge is measured against, each begun in the host's network namespace. */
export function startOthers(plan: ProxyPlan): {
  readonly proxies: readonly ReverseProxy[]
  stop(): void
} {
  const children: ChildProcess[] = []
  const start = (command: readonly string[], env: Readonly<Record<string, string>> = {}) => {
    const child = spawn('nsenter', [`--net=${plan.netns}`, ...command], {
      stdio: ['ignore', 'ignore', 'inherit'],
      env: { ...process.env, ...env },
    })
    children.push(child)
    return child
  }
  const write = (name: string, text: string) => {
    const file = join(plan.folder, name)
    writeFileSync(file, text)
    return file
  }
  const haproxy = (name: string, text: string) =>
    start(['haproxy', '-db', '-f', write(`${name}.cfg`, text)])

  const hosts = write('hosts.map', `${plan.hostname} s0\n`)
  const proxies = [
    proxyAt('HAProxy, same rules and logging', haproxy('same', sameRules(plan, hosts, 8081)), 8081),
    proxyAt('HAProxy, no rules', haproxy('bare', noRules(plan, 8083)), 8083),
    proxyAt('nginx', start(['nginx', '-c', write('nginx.conf', nginx(plan, 8085))]), 8085),
    proxyAt(
      'Caddy',
      start(
        [
          'caddy',
          'run',
          '--adapter',
          'caddyfile',
          '--config',
          write('Caddyfile', caddy(plan, 8087)),
        ],
        { GOMAXPROCS: `${plan.threads}`, HOME: plan.folder },
      ),
      8087,
    ),
    proxyAt(
      'Node',
      start([
        process.execPath,
        join(import.meta.dirname, 'node-proxy.ts'),
        ...[plan.machine, plan.certificate, '8089', '8090'],
      ]),
      8089,
    ),
  ]
  return {
    proxies,
    stop: () => {
      // nginx's workers go with their master only if it is asked.
      for (const child of children) child.kill('SIGTERM')
      for (const child of children) {
        const late = setTimeout(() => child.kill('SIGKILL'), 3000)
        child.once('exit', () => clearTimeout(late))
      }
    },
  }
}

/**
 * The very configuration that the edge renders, without what plain HTTP and HTTPS do not pass, and with the machine written into it.
 * It logs to the edge's own reader. Where both listen, its sockets have other names.
 */
function sameRules(
  { rendered, machine, certificate }: ProxyPlan,
  hosts: string,
  port: number,
): string {
  const sections = rendered.split(/\n(?=[a-z])/)
  const kept = (start: string) => {
    const found = sections.find((section) => new RegExp(`^${start}$`, 'm').test(section))
    if (found === undefined) throw new Error(`the edge's configuration has no section ${start}`)
    return found
  }
  const own = (text: string) =>
    text
      .replace(/^ {2}(stats socket|user|group) .*$/gm, '')
      .replaceAll(/abns@roost-(?!log-)/g, 'abns@bench-')
      .replaceAll(/map_str\([^)]*hosts[^)]*\)/g, `map_str(${hosts})`)
  const at = (text: string, bind: string) =>
    text.replace(/^ {2}bind abns@.* accept-proxy.*$/m, '').replace(/^ {2}bind fd@\d+.*$/m, bind)
  return [
    ...['global', 'defaults', 'ring traffic', 'listen relay'].map((name) => own(kept(name))),
    at(own(kept('frontend http')), `  bind ${AT}:${port}`),
    at(
      own(kept('frontend https')),
      `  bind ${AT}:${port + 1} ssl crt ${certificate} alpn h2,http/1.1`,
    ),
    ...[
      ...['frontend rest', 'backend sources', 'backend source_requests', 'frontend hold'],
      ...['backend replay', 'backend files', 'frontend again', 'backend empty'],
    ].map((name) => own(kept(name))),
    own(kept('backend s0'))
      .replace(/^ {2}server hold\..*$/m, '')
      .replace(/^ {2}server .*\n/gm, '')
      .replace(
        /$/,
        `\n  server m ${machine} pool-max-conn -1 pool-purge-delay 150ms weight 100 check inter 500ms fastinter 200ms downinter 500ms rise 1 fall 2 observe layer4 error-limit 1 on-error mark-down\n`,
      ),
  ].join('\n')
}

function noRules({ machine, certificate, threads }: ProxyPlan, port: number): string {
  return `global
  maxconn 4000
  nbthread ${threads}
  ssl-default-bind-options ssl-min-ver TLSv1.2
defaults
  mode http
  timeout client 60s
  timeout connect 5s
  timeout server 60s
frontend f
  bind ${AT}:${port}
  bind ${AT}:${port + 1} ssl crt ${certificate} alpn h2,http/1.1
  default_backend b
backend b
  server m ${machine}
`
}

function nginx({ machine, certificate, threads, folder }: ProxyPlan, port: number): string {
  return `daemon off;
worker_processes ${threads};
pid ${folder}/nginx.pid;
error_log stderr crit;
events { worker_connections 4096; }
http {
  access_log off;
  client_body_temp_path ${folder}/nginx-body;
  proxy_temp_path ${folder}/nginx-proxy;
  fastcgi_temp_path ${folder}/nginx-fastcgi;
  uwsgi_temp_path ${folder}/nginx-uwsgi;
  scgi_temp_path ${folder}/nginx-scgi;
  keepalive_requests 1000000;
  upstream machine { server ${machine}; keepalive 64; }
  server {
    listen ${AT}:${port};
    listen ${AT}:${port + 1} ssl http2;
    ssl_certificate ${certificate};
    ssl_certificate_key ${certificate};
    ssl_protocols TLSv1.2 TLSv1.3;
    location / {
      proxy_pass http://machine;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $host;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header X-Forwarded-Proto $scheme;
    }
  }
}
`
}

function caddy({ machine, certificate }: ProxyPlan, port: number): string {
  return `{
  admin off
  auto_https off
  log {
    level ERROR
  }
}
http://:${port} {
  bind ${AT}
  reverse_proxy ${machine}
}
https://:${port + 1} {
  bind ${AT}
  tls ${certificate} ${certificate}
  reverse_proxy ${machine}
}
`
}

/** Processor time that these and all processes below them have used, in milliseconds. */
export function processorMs(pids: readonly number[]): number {
  const all = new Map<number, { parent: number; ticks: number }>()
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue
    try {
      const fields = readFileSync(`/proc/${name}/stat`, 'utf8')
        .replace(/^.*\) /s, '')
        .split(' ')
      const ticks = Number(fields[11]) + Number(fields[12])
      all.set(Number(name), { parent: Number(fields[1]), ticks })
    } catch {
      // It has ended.
    }
  }
  const within = (pid: number): boolean =>
    pids.includes(pid) || (all.has(pid) && pid > 1 && within(all.get(pid)?.parent ?? 0))
  let sum = 0
  for (const [pid, { ticks }] of all) if (within(pid)) sum += ticks
  return sum * 10
}

export interface Measured {
  readonly perSecond: number
  readonly p50Ms: number
  readonly p99Ms: number
  /** Processor time of the proxy for one request, in microseconds. */
  readonly processorUs: number
}

/** All that wrk can send for some seconds. */
export async function load(
  plan: Pick<ProxyPlan, 'netns' | 'hostname'>,
  proxy: ReverseProxy,
  how: { readonly scheme: 'http' | 'https'; readonly close: boolean; readonly seconds: number },
): Promise<Measured> {
  const pids = proxy.pids()
  const before = processorMs(pids)
  const { stdout, stderr } = await run([
    ...['nsenter', `--net=${plan.netns}`, 'wrk', '-t1', '-c32', `-d${how.seconds}s`, '--latency'],
    ...['-H', `Host: ${plan.hostname}`],
    ...['-H', `Connection: ${how.close ? 'close' : 'keep-alive'}`],
    `${proxy[how.scheme]}/`,
  ])
  const spent = processorMs(pids) - before
  const of = (pattern: RegExp) => pattern.exec(stdout)?.[1] ?? ''
  const perSecond = Number(of(/Requests\/sec:\s+([\d.]+)/))
  const requests = Number(of(/(\d+) requests in/))
  if (!(perSecond > 0) || /Non-2xx/.test(stdout))
    throw new Error(`wrk at ${proxy.name}: ${stdout} ${stderr}`)
  return {
    perSecond,
    p50Ms: msOf(of(/50%\s+(\S+)/)),
    p99Ms: msOf(of(/99%\s+(\S+)/)),
    processorUs: (spent * 1000) / requests,
  }
}

/** As wrk writes them: `81.00us`, `1.20ms`, `2.01s`. */
function msOf(text: string): number {
  const [, value = '', unit = ''] = /^([\d.]+)(us|ms|s)$/.exec(text) ?? []
  return Number(value) * (unit === 'us' ? 0.001 : unit === 's' ? 1000 : 1)
}
