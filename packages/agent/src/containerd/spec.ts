import { PlatformError } from '@roost/base'
import type { MachineConfig, MachineGuest } from '@roost/core'
import { CPU_PERIOD_US, machineLimits } from './limits.ts'
import type { OciSeccomp } from './seccomp.ts'
import type { ImageUser } from './user.ts'

/** What of an image's config decides how it runs. */
export interface ImageRun {
  readonly entrypoint: readonly string[]
  readonly cmd: readonly string[]
  readonly env: readonly string[]
  readonly workingDir: string
  readonly user: string
}

/** What Docker gives a container: enough to change users and bind low ports, not enough to touch the host. */
export const CAPABILITIES: readonly string[] = [
  'CAP_AUDIT_WRITE',
  'CAP_CHOWN',
  'CAP_DAC_OVERRIDE',
  'CAP_FOWNER',
  'CAP_FSETID',
  'CAP_KILL',
  'CAP_MKNOD',
  'CAP_NET_BIND_SERVICE',
  'CAP_NET_RAW',
  'CAP_SETFCAP',
  'CAP_SETGID',
  'CAP_SETPCAP',
  'CAP_SETUID',
  'CAP_SYS_CHROOT',
]

const OPEN_FILES_MAX = 65_536

export interface SpecInput {
  readonly init: MachineConfig['init']
  readonly guest: MachineGuest
  readonly image: ImageRun
  readonly user: ImageUser
  readonly hostname: string
  readonly netnsPath: string
  readonly cgroupPath: string
  /** On tmpfs: `hosts`, `resolv.conf`. */
  readonly machineDir: string
  /** On tmpfs: the environment, and what stands between. */
  readonly roostDir: string
  /** More mounts, after all others. */
  readonly mounts: readonly object[]
  readonly annotations: Readonly<Record<string, string>>
  readonly tiniPath: string
  readonly busyboxPath: string
  readonly seccomp: OciSeccomp
  /** Limits that we may not go above without CAP_SYS_RESOURCE. */
  readonly openFilesHardMax: number
  /** What this host lets us give: bytes of a core dump. */
  readonly coreHardMax: number
  readonly swapAccounting: boolean
  /** Where memory that is swapped would lie in clear, and the kernel can be told per group. */
  readonly neverSwap: boolean
  /** Memory beyond its own that the kernel may keep for it on swap. */
  readonly swapMb: number
}

/**
 * The program that PID 1 of a machine runs: `exec` replaces all, `entrypoint` also drops the image's cmd,
 * `cmd` replaces only that.
 */
export function programOf(init: MachineConfig['init'], image: ImageRun): readonly string[] {
  const entrypoint = init.entrypoint ?? image.entrypoint
  const cmd = init.cmd ?? (init.entrypoint ? [] : image.cmd)
  const program = init.exec ?? [...entrypoint, ...cmd]
  if (program.length === 0)
    throw new PlatformError('image_unusable', 'the image has neither ENTRYPOINT nor CMD')
  return program
}

/** When the host itself runs out of memory: after its builds, before the programs that all machines need. */
const OOM_SCORE_ADJ = 300

export function machineSpec(input: SpecInput): object {
  const { init, image, user, machineDir } = input
  const root = user.uid === 0
  // A dump of a program that crashed has its secrets, and would lie on the disk. 1 and not 0: with that the kernel does not
  // hand it to a program either (core_pattern with a pipe).
  const core = Math.min(input.coreHardMax, 1)
  const openFiles = Math.min(input.openFilesHardMax, OPEN_FILES_MAX)
  return {
    ociVersion: '1.0.2',
    process: {
      terminal: false,
      user: { uid: user.uid, gid: user.gid, additionalGids: user.additionalGids },
      args: [...PREFIX, ...programOf(init, image)],
      env: withDefaults(image.env, {
        PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
        HOME: user.home,
        HOSTNAME: input.hostname,
      }),
      cwd: image.workingDir === '' ? '/' : image.workingDir,
      capabilities: {
        bounding: CAPABILITIES,
        effective: root ? CAPABILITIES : [],
        permitted: root ? CAPABILITIES : [],
        inheritable: [],
        ambient: [],
      },
      rlimits: [
        { type: 'RLIMIT_NOFILE', soft: openFiles, hard: openFiles },
        { type: 'RLIMIT_CORE', soft: core, hard: core },
      ],
      noNewPrivileges: true,
      oomScoreAdj: OOM_SCORE_ADJ,
    },
    root: { path: 'rootfs', readonly: false },
    hostname: input.hostname,
    mounts: [
      ...FILE_SYSTEMS,
      bind(input.roostDir, '/.roost'),
      bind(input.tiniPath, '/.roost/tini'),
      bind(input.busyboxPath, '/.roost/busybox'),
      bind(`${machineDir}/hosts`, '/etc/hosts', 'rw'),
      bind(`${machineDir}/resolv.conf`, '/etc/resolv.conf', 'rw'),
      ...input.mounts,
    ],
    annotations: input.annotations,
    linux: {
      cgroupsPath: input.cgroupPath,
      namespaces: [
        { type: 'pid' },
        { type: 'ipc' },
        { type: 'uts' },
        { type: 'mount' },
        { type: 'cgroup' },
        { type: 'network', path: input.netnsPath },
      ],
      resources: resources(input.guest, input),
      sysctl: {
        'net.ipv4.ip_unprivileged_port_start': '0',
        'net.ipv4.ping_group_range': '0 2147483647',
      },
      seccomp: input.seccomp,
      maskedPaths: MASKED,
      readonlyPaths: READ_ONLY,
    },
  }
}

/**
 * The shell reads the environment and tini runs the program, in this order: Debian's busybox would run its own applets
 * instead of the program. PWD and SHLVL are the shell's own.
 */
const PREFIX: readonly string[] = [
  '/.roost/busybox',
  'sh',
  '-c',
  '. /.roost/env; unset PWD SHLVL; exec /.roost/tini -- "$@"',
  'sh',
]

const bind = (source: string, destination: string, mode: 'ro' | 'rw' = 'ro') => ({
  destination,
  type: 'bind',
  source,
  options: ['bind', mode, 'nosuid', 'nodev'],
})

function resources(
  guest: MachineGuest,
  { swapAccounting, neverSwap, swapMb }: Pick<SpecInput, 'swapAccounting' | 'neverSwap' | 'swapMb'>,
): object {
  const { memoryBytes: memory, cpuShares, cpuQuotaUs, pids } = machineLimits(guest)
  return {
    devices: [
      { allow: false, access: 'rwm' },
      ...ALLOWED_DEVICES.map((device) => ({ allow: true, ...device })),
    ],
    memory: {
      limit: memory,
      ...(swapAccounting ? { swap: memory + swapMb * 1024 * 1024 } : {}),
      ...(neverSwap ? { swappiness: 0 } : {}),
    },
    cpu: { shares: cpuShares, quota: cpuQuotaUs, period: CPU_PERIOD_US },
    pids: { limit: pids },
  }
}

function withDefaults(
  env: readonly string[],
  defaults: Readonly<Record<string, string>>,
): readonly string[] {
  const names = new Set(env.map((line) => line.split('=', 1)[0]))
  return [
    ...Object.entries(defaults)
      .filter(([name]) => !names.has(name))
      .map(([name, value]) => `${name}=${value}`),
    ...env.filter((line) => line.includes('=')),
  ]
}

/** null, zero, full, random, urandom, tty, terminals. */
const ALLOWED_DEVICES = [
  ...[3, 5, 7, 8, 9].map((minor) => ({ type: 'c', major: 1, minor, access: 'rwm' })),
  ...[0, 2].map((minor) => ({ type: 'c', major: 5, minor, access: 'rwm' })),
  { type: 'c', major: 136, access: 'rwm' },
]

const FILE_SYSTEMS = [
  { destination: '/proc', type: 'proc', source: 'proc', options: ['nosuid', 'noexec', 'nodev'] },
  {
    destination: '/dev',
    type: 'tmpfs',
    source: 'tmpfs',
    options: ['nosuid', 'strictatime', 'mode=755', 'size=65536k'],
  },
  {
    destination: '/dev/pts',
    type: 'devpts',
    source: 'devpts',
    options: ['nosuid', 'noexec', 'newinstance', 'ptmxmode=0666', 'mode=0620', 'gid=5'],
  },
  {
    destination: '/dev/shm',
    type: 'tmpfs',
    source: 'shm',
    options: ['nosuid', 'noexec', 'nodev', 'mode=1777', 'size=65536k'],
  },
  {
    destination: '/dev/mqueue',
    type: 'mqueue',
    source: 'mqueue',
    options: ['nosuid', 'noexec', 'nodev'],
  },
  {
    destination: '/sys',
    type: 'sysfs',
    source: 'sysfs',
    options: ['nosuid', 'noexec', 'nodev', 'ro'],
  },
  {
    destination: '/sys/fs/cgroup',
    type: 'cgroup',
    source: 'cgroup',
    options: ['nosuid', 'noexec', 'nodev', 'relatime', 'ro'],
  },
]

const MASKED = [
  '/proc/acpi',
  '/proc/asound',
  '/proc/kcore',
  '/proc/keys',
  '/proc/latency_stats',
  '/proc/sched_debug',
  '/proc/scsi',
  '/proc/timer_list',
  '/proc/timer_stats',
  '/sys/devices/virtual/powercap',
  '/sys/firmware',
]
const READ_ONLY = ['/proc/bus', '/proc/fs', '/proc/irq', '/proc/sys', '/proc/sysrq-trigger']
